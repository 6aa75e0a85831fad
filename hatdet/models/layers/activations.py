"""Activations by name: modules, so that a tracer and a quantizer see them."""

from __future__ import annotations

import inspect

from torch import nn

ACTIVATIONS: dict[str, type[nn.Module]] = {
    cls.__name__: cls
    for cls in (nn.ReLU, nn.ReLU6, nn.SiLU, nn.Hardswish, nn.LeakyReLU, nn.GELU, nn.Mish, nn.Identity)
}


def build_activation(name: str | None) -> nn.Module | None:
    """The activation module called ``name`` (a class name of ``torch.nn``); None stays None.

    Raises:
        ValueError: the name is not one of :data:`ACTIVATIONS`.
    """
    if name is None:
        return None
    if name not in ACTIVATIONS:
        allowed = ", ".join(sorted(ACTIVATIONS))
        raise ValueError(f"unknown activation {name!r}; write one of {allowed}, or None for no activation")
    cls = ACTIVATIONS[name]
    # In place where torch offers it: the output of batch norm is needed by nothing else.
    return cls(inplace=True) if "inplace" in inspect.signature(cls).parameters else cls()
