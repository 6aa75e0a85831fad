"""Activations that are written out: ``F.relu6(x + 3) / 6`` and ``x * F.relu6(x + 3) / 6``."""

from __future__ import annotations

import operator
from typing import cast

import torch
from torch import fx, nn

from hatdet.quantization.tracing.folding import Graph


def write_short(graph: Graph) -> None:
    """Put Hardsigmoid and Hardswish where they are written out."""
    gates: set[fx.Node] = set()
    for node in graph.nodes():  # ... / 6
        if not _is(graph, node, 1.0 / 6.0, 0.0):
            continue
        source = cast(fx.Node, node.args[0])
        if (x := _ramp(graph, source)) is not None:
            _replace(graph, node, nn.Hardsigmoid(), x)
            gates.add(node)
        elif source.target is operator.mul and len(source.users) == 1:
            a, b = cast(tuple[fx.Node, fx.Node], source.args)
            if _ramp(graph, a) is b or _ramp(graph, b) is a:
                _replace(graph, node, nn.Hardswish(), b if _ramp(graph, a) is b else a)
    for node in list(graph.traced.graph.nodes):  # x * (... / 6)
        if node.target is operator.mul:
            for x, gate in (node.args, node.args[::-1]):
                if gate in gates and gate.args[0] is x and len(gate.users) == 1:
                    node.replace_all_uses_with(gate)
                    graph.traced.graph.erase_node(node)
                    graph.put(gate, nn.Hardswish())
                    break


def _ramp(graph: Graph, node: fx.Node) -> fx.Node | None:
    """The x of ``F.relu6(x + 3)``, where nothing else reads that."""
    if type(graph.module(node)) is not nn.ReLU6 or len(node.users) != 1:
        return None
    shifted = cast(fx.Node, node.args[0])
    if len(shifted.users) != 1 or not _is(graph, shifted, 1.0, 3.0):
        return None
    return cast(fx.Node, shifted.args[0])


def _is(graph: Graph, node: fx.Node, factor: float, offset: float) -> bool:
    module = graph.affine(node)
    if module is None or module.in_channels != module.out_channels:
        return False
    pairs = ((module.factor, factor), (module.offset, offset))
    return all(torch.allclose(v, v.new_tensor(number), rtol=1e-6, atol=1e-9) for v, number in pairs)


def _replace(graph: Graph, node: fx.Node, module: nn.Module, x: fx.Node) -> None:
    """Let ``node`` call ``module`` of ``x``, and erase what led there from it and is not read any more."""
    before = [n for n in node.args if isinstance(n, fx.Node)]
    graph.put(node, module)
    node.args = (x,)
    while before:
        unread = before.pop()
        if unread is not x and not unread.users:
            before += [n for n in unread.args if isinstance(n, fx.Node)]
            graph.erase(unread)
