"""Attributes of ONNX nodes that both integer forms write."""

from __future__ import annotations

from typing import Any

from hatdet.integer.graph import IntGraph
from hatdet.integer.operators.layout.pad import PadOp
from hatdet.integer.operators.layout.resizing import ResizeOp, factor_of
from hatdet.integer.operators.layout.slice import SliceOp, slices
from hatdet.integer.operators.windows.average_pool import AveragePoolOp
from hatdet.integer.operators.windows.conv import ConvOp
from hatdet.integer.operators.windows.conv_transpose import ConvTransposeOp
from hatdet.integer.operators.windows.max_pool import MaxPoolOp
from hatdet.integer.tensors import Shape

NEAREST = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
BILINEAR = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}


def conv_attributes(op: ConvOp) -> dict[str, Any]:
    return {
        "kernel_shape": list(op.weight.shape[2:]),
        "strides": list(op.stride),
        "pads": [*op.padding, *op.padding],
        "dilations": list(op.dilation),
        "group": op.groups,
    }


def conv_transpose_attributes(op: ConvTransposeOp) -> dict[str, Any]:
    return {
        "kernel_shape": list(op.weight.shape[2:]),
        "strides": list(op.stride),
        "pads": [*op.padding, *op.padding],
        "output_padding": list(op.output_padding),
    }


def average_attributes(op: AveragePoolOp) -> dict[str, Any]:
    pads = {"pads": [*op.padding, *op.padding]} if any(op.padding) else {}
    return {"kernel_shape": list(op.kernel), "strides": list(op.stride), **pads}


def max_pool_attributes(op: MaxPoolOp) -> dict[str, Any]:
    return {"kernel_shape": list(op.kernel), "strides": list(op.stride), "pads": [*op.padding, *op.padding]}


def resize_scales(op: ResizeOp, graph: IntGraph) -> list[int]:
    """The third input of Resize."""
    factor = factor_of(graph.tensors[op.input].shape, op.factor, op.size)
    return [1, 1, factor, factor]


def pad_amounts(op: PadOp) -> list[int]:
    """The second input of Pad."""
    top, bottom, left, right = op.padding
    return [0, 0, top, left, 0, 0, bottom, right]


def slice_numbers(op: SliceOp, shape: Shape) -> dict[str, list[int]]:
    """The inputs of Slice after the first, of one that reads maps of ``shape``."""
    parts = slices(shape, op.begin, op.end, op.stride)
    starts, ends = [part.start for part in parts], [part.stop for part in parts]
    return {"starts": starts, "ends": ends, "axes": [1, 2, 3], "steps": [1, *op.stride]}
