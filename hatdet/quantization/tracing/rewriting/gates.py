"""Gated linear units (Dauphin et al., "Language Modeling with Gated Convolutional Networks", 2017), as the operators
that they are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from torch import fx, nn

from hatdet.quantization.tracing.applied import Applied
from hatdet.quantization.tracing.recorded import drop_unread, shapes_of
from hatdet.quantization.tracing.rewriting.moving import Writer


def split_gates(traced: fx.GraphModule, add: Callable[[str, nn.Module], str]) -> None:
    """Put slices, a sigmoid and a product in the place of a GLU of channels; others stay, and are refused by name.

    Args:
        add: adds a module under a path, and returns the path that it got.
    """
    for node in list(traced.graph.nodes):
        call = node.meta.get("call")
        if call is None or call.op not in ("glu", "GLU"):
            continue
        source = cast(fx.Node, node.args[0])
        shapes = shapes_of(source)
        if node.op == "call_module":
            dim = cast(nn.GLU, traced.get_submodule(str(node.target))).dim
        else:
            dim = Applied(call, shapes).arguments("dim").get("dim", -1)
        if dim in (1, -3) and all(len(shape) == 4 for shape in shapes):
            Writer(traced, node, add).write_gate(source)
    drop_unread(traced.graph)
