"""The shapes of a graph for another image size: weights and scales do not depend on it."""

from __future__ import annotations

from dataclasses import replace

from hatdet.integer.graph import (
    AveragePoolOp,
    ConcatOp,
    ConvOp,
    GlobalAveragePoolOp,
    IntGraph,
    IntOp,
    MaxPoolOp,
    MulOp,
    PadOp,
    ResizeBilinearOp,
    ResizeNearestOp,
)
from hatdet.integer.kernels import conv_output_size
from hatdet.utils.errors import UserError

Shape = tuple[int, int, int]


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
        joined = ins[:1] if isinstance(op, MulOp) and ins[1][1:] == (1, 1) else ins
        if min(min(shape) for shape in ins) < 1 or len({s[1:] for s in joined}) > 1:
            raise UserError(
                f"image size {tuple(image_size)} does not suit the network: {op.name!r} would join maps of "
                f"{[s[1:] for s in ins]}; use multiples of its largest stride (32)"
            )
        shapes[op.output] = _output_shape(op, ins)
    tensors = {name: replace(info, shape=shapes.get(name, info.shape)) for name, info in graph.tensors.items()}
    metadata = {**graph.metadata, "image_size": list(image_size)}
    return IntGraph(tensors, graph.ops, graph.inputs, graph.outputs, metadata)


def _output_shape(op: IntOp, ins: list[Shape]) -> Shape:
    channels, height, width = ins[0]
    if isinstance(op, ConvOp):
        sizes = [
            conv_output_size(n, k, s, p, d)
            for n, k, s, p, d in zip(ins[0][1:], op.weight.shape[2:], op.stride, op.padding, op.dilation, strict=True)
        ]
        return op.weight.shape[0], sizes[0], sizes[1]
    if isinstance(op, MaxPoolOp):
        sizes = [
            conv_output_size(n, k, s, p)
            for n, k, s, p in zip(ins[0][1:], op.kernel, op.stride, op.padding, strict=True)
        ]
        return channels, sizes[0], sizes[1]
    if isinstance(op, GlobalAveragePoolOp):
        return channels, 1, 1
    if isinstance(op, AveragePoolOp):
        sizes = [conv_output_size(n, k, s, 0) for n, k, s in zip(ins[0][1:], op.kernel, op.stride, strict=True)]
        return channels, sizes[0], sizes[1]
    if isinstance(op, PadOp):
        top, bottom, left, right = op.padding
        return channels, height + top + bottom, width + left + right
    if isinstance(op, (ResizeNearestOp, ResizeBilinearOp)):
        return channels, height * op.factor, width * op.factor
    if isinstance(op, ConcatOp):
        return sum(shape[0] for shape in ins), height, width
    return ins[0]
