"""The shapes of a graph for another image size: weights and scales do not depend on it."""

from __future__ import annotations

from dataclasses import replace

from hatdet.integer.graph import IntGraph
from hatdet.integer.tensors import Shape
from hatdet.utils.errors import UserError


def with_image_size(graph: IntGraph, image_size: tuple[int, int]) -> IntGraph:
    """The same network for images of ``image_size`` (h, w); the graph itself where that is its size already.

    Raises:
        UserError: the size does not suit the network's strides (maps that are joined would differ).
    """
    source = graph.tensors[graph.inputs[0]]
    if source.shape[1:] == tuple(image_size):
        return graph
    shapes: dict[str, Shape] = {graph.inputs[0]: (source.shape[0], *image_size)}
    for op in graph.ops:
        ins = [shapes[name] for name in op.inputs]
        try:
            shapes[op.output] = op.shape_of(ins, op.settings)
        except ValueError:
            shapes[op.output] = (0, 0, 0)
        if min(min(shape) for shape in (*ins, shapes[op.output])) < 1:
            raise UserError(
                f"image size {tuple(image_size)} does not suit the network: {op.name!r} would join maps of "
                f"{[s[1:] for s in ins]}; use multiples of its largest stride (32)"
            )
    tensors = {name: replace(info, shape=shapes.get(name, info.shape)) for name, info in graph.tensors.items()}
    metadata = {**graph.metadata, "image_size": list(image_size)}
    return IntGraph(tensors, graph.ops, graph.inputs, graph.outputs, metadata)
