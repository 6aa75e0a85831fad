"""Names of recorded operators: one for every spelling (``torch.relu``, ``F.relu_``, ``x.relu()``), and what is known of
some by name."""

from __future__ import annotations

from typing import Any

PASSING = frozenset(
    "clone contiguous detach to float type type_as cpu cuda deepcopy requires_grad positive expand expand_as reshape "
    "broadcast_to dropout dropout1d dropout2d dropout3d alpha_dropout feature_dropout feature_alpha_dropout "
    "data Identity Dropout Dropout1d Dropout2d Dropout3d AlphaDropout FeatureAlphaDropout".split()
)
"""What changes no value at inference (that is verified)."""

NEUTRAL = {"add": 0, "sub": 0, "mul": 1, "multiply": 1, "div": 1, "divide": 1, "true_divide": 1}
"""The constant with which an operator does nothing (``sum([a, b])`` begins with ``0 + a``)."""

COMMUTATIVE = frozenset(["add", "mul", "multiply"])
"""Those of them that take it on either side."""

CONSTANT_MAKERS = frozenset(
    "zeros ones full empty arange linspace tensor as_tensor scalar_tensor zeros_like ones_like full_like empty_like "
    "rand_like randn_like new_zeros new_ones new_full new_empty new_tensor rand randn".split()
)
"""What gives a constant, whatever tensor the shape is taken from."""

DRAWING = frozenset(
    "rand randn randint randperm rand_like randn_like randint_like bernoulli multinomial normal poisson uniform random "
    "exponential geometric cauchy log_normal".split()
)
"""What draws random numbers."""

READING = frozenset(
    "__bool__ __int__ __float__ __index__ __complex__ __contains__ __array__ item tolist numpy is_nonzero equal "
    "allclose storage untyped_storage".split()
)
"""What takes values out of tensors."""

_GRAPH_NAMES = {"add_": "iadd", "mul_": "imul"}


def operator_name(func: Any) -> str:
    """The one name of an operator, however it is called."""
    name = _own_name(func)
    if name in READING:
        return name
    return name.strip("_")


def graph_name(func: Any) -> str:
    """What a node of this operator is called in the graph."""
    name = _own_name(func)
    return _GRAPH_NAMES.get(name, name.strip("_") if name.startswith("__") else name)


def _own_name(func: Any) -> str:
    name = str(getattr(func, "__name__", func))
    if name in ("__get__", "__set__", "__delete__"):  # a property: x.data, x.T
        return str(getattr(getattr(func, "__self__", None), "__name__", name))
    return name
