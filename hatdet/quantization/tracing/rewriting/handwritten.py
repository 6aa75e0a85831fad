"""Activations that are written out: ``x * F.relu6(x + 3) / 6`` is a Hardswish, and so is what is spelled otherwise.

Whatever pointwise operators make of one value is evaluated on numbers, and compared with the functions that have an
operator of their own; the spelling does not matter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from hatdet.integer.operators import pointwise
from hatdet.integer.operators.pairs.pair import PairOp
from hatdet.quantization.operators.pointwise.function import Function
from hatdet.quantization.operators.table import FUNCTIONS, form_of
from hatdet.quantization.tracing.rewriting.constants import ChannelAffine
from hatdet.quantization.tracing.rewriting.folding import Graph

KNOWN: tuple[tuple[Callable[[Tensor], Tensor], Callable[[], nn.Module]], ...] = (
    (F.hardsigmoid, nn.Hardsigmoid),
    (F.hardswish, nn.Hardswish),
    (F.gelu, lambda: Function("gelu")),
    (lambda x: F.gelu(x, approximate="tanh"), lambda: Function("gelu_tanh")),
    (F.mish, lambda: Function("mish")),
)
"""Functions, and the module of each."""

TOLERANCE = 1e-6
LARGEST = 24
"""Operators that one activation is at most made of."""


def write_short(graph: Graph) -> None:
    """Put the modules of :data:`KNOWN` where they are written out.

    What is written without constants, and without functions by table, is left as it is.
    """
    order = {node: index for index, node in enumerate(graph.traced.graph.nodes)}
    if not any(isinstance(graph.module(node), (ChannelAffine, Function)) for node in order):
        return
    gone: set[fx.Node] = set()
    for end in reversed(order):
        if end not in gone and _is_pointwise(graph, end):
            gone |= _shortened(graph, end, order)


def _shortened(graph: Graph, end: fx.Node, order: dict[fx.Node, int]) -> set[fx.Node]:
    """What led to ``end`` and is replaced by one module; empty: it is none of the known functions."""
    inside = {end}
    while len(inside) <= LARGEST:
        sources = sorted({n for node in inside for n in node.all_input_nodes} - inside, key=order.__getitem__)
        if len(sources) == 1 and len(inside) > 1:
            module = _known(graph, sources[0], end, sorted(inside, key=order.__getitem__))
            if module is not None:
                graph.replace(end, module, sources[0])
                return inside
        growing = [n for n in sources if _is_pointwise(graph, n) and all(user in inside for user in n.users)]
        if not growing:
            break
        inside.add(growing[-1])
    return set()


def _is_pointwise(graph: Graph, node: fx.Node) -> bool:
    """Whether a node does the same to each number of a map, or to each pair of numbers of two."""
    module = graph.module(node)
    if module is None:
        form = FUNCTIONS.get(node.target)
        return form is not None and issubclass(form.op, PairOp)
    if isinstance(module, ChannelAffine):
        same = bool((module.factor == module.factor[0]).all() & (module.offset == module.offset[0]).all())
        return same and module.in_channels == module.out_channels
    form = form_of(module)
    within = form is not None and form.op.__module__.startswith(pointwise.__name__)
    return within and next(module.parameters(), None) is None


def _known(graph: Graph, source: fx.Node, end: fx.Node, inside: list[fx.Node]) -> nn.Module | None:
    """The module of the function that ``inside`` is, of ``source``."""
    if not any(isinstance(graph.module(node), (ChannelAffine, Function)) for node in inside):
        return None
    x = torch.linspace(-12.0, 12.0, 481, dtype=torch.float64)
    values: dict[fx.Node, Tensor] = {source: x}
    for node in inside:
        values[node] = _value(graph, node, [values[cast(fx.Node, n)] for n in node.args])
    found = values[end]
    for function, make in KNOWN:
        if found.shape == x.shape and bool(((found - function(x)).abs() <= TOLERANCE).all()):
            return make()
    return None


def _value(graph: Graph, node: fx.Node, inputs: list[Tensor]) -> Tensor:
    module = graph.module(node)
    if isinstance(module, ChannelAffine):
        return inputs[0] * module.factor[0].cpu() + module.offset[0].cpu()
    function: Any = node.target if module is None else module
    value: Tensor = function(*inputs)
    return value
