"""How the ONNX file of explicit integers says each operator."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from hatdet.export.forms import ISLAND, Forms
from hatdet.export.onnx.digits import digits
from hatdet.export.onnx.exact_writer import ExactWriter
from hatdet.export.onnx.operators.attributes import (
    BILINEAR,
    NEAREST,
    average_attributes,
    conv_attributes,
    conv_transpose_attributes,
    max_pool_attributes,
    pad_amounts,
    resize_scales,
    slice_numbers,
)
from hatdet.integer.kernels import accumulator_bounds
from hatdet.integer.operators.island import FloatOp
from hatdet.integer.operators.layout.channel_order import ChannelOrderOp
from hatdet.integer.operators.layout.concat import ConcatOp
from hatdet.integer.operators.layout.depth_to_space import DepthToSpaceOp
from hatdet.integer.operators.layout.pad import PadOp
from hatdet.integer.operators.layout.resize_bilinear import ResizeBilinearOp
from hatdet.integer.operators.layout.resize_nearest import ResizeNearestOp
from hatdet.integer.operators.layout.slice import SliceOp
from hatdet.integer.operators.pairs.add import AddOp
from hatdet.integer.operators.pairs.maximum import MaximumOp
from hatdet.integer.operators.pairs.minimum import MinimumOp
from hatdet.integer.operators.pairs.mul import MulOp
from hatdet.integer.operators.pairs.sub import SubOp
from hatdet.integer.operators.pointwise.activation import ActivationOp
from hatdet.integer.operators.pointwise.clamp import ClampOp
from hatdet.integer.operators.pointwise.function import FunctionOp
from hatdet.integer.operators.pointwise.leaky_relu import LeakyReluOp
from hatdet.integer.operators.pointwise.prelu import PreluOp
from hatdet.integer.operators.pointwise.requantize import RequantizeOp
from hatdet.integer.operators.windows.average_pool import AveragePoolOp
from hatdet.integer.operators.windows.conv import ConvOp
from hatdet.integer.operators.windows.conv_transpose import ConvTransposeOp
from hatdet.integer.operators.windows.global_average_pool import GlobalAveragePoolOp
from hatdet.integer.operators.windows.global_max_pool import GlobalMaxPoolOp
from hatdet.integer.operators.windows.max_pool import MaxPoolOp
from hatdet.integer.operators.windows.window import block_of


def conv(writer: ExactWriter, op: ConvOp) -> None:
    x = writer.qparams(op.input)
    limits = (-128 - x.zero_point, 127 - x.zero_point)
    bounds = accumulator_bounds(torch.from_numpy(op.weight).float(), torch.from_numpy(op.bias).double(), *limits)
    acc = writer.accumulators("Conv", op, digits(op, limits), op.bias, **conv_attributes(op))
    writer.requantized(acc, op, bounds.numpy())


def conv_transpose(writer: ExactWriter, op: ConvTransposeOp) -> None:
    x = writer.qparams(op.input)
    limits = (-128 - x.zero_point, 127 - x.zero_point)
    bounds = accumulator_bounds(torch.from_numpy(op.weight).float(), torch.from_numpy(op.bias).double(), *limits)
    parts = [(place, digit.swapaxes(0, 1)) for place, digit in digits(op, limits)]
    acc = writer.accumulators("ConvTranspose", op, parts, op.bias, **conv_transpose_attributes(op))
    writer.requantized(acc, op, bounds.numpy())


def pair(writer: ExactWriter, op: AddOp | SubOp | MulOp) -> None:
    parameters = (writer.qparams(name) for name in (op.input1, op.input2, op.output))
    writer.lookup_pairs(op, op.table(writer.graph.profile, *parameters))


def minimum(writer: ExactWriter, op: MinimumOp) -> None:
    writer.finish(writer.node("Min", [writer.codes(name, "int32") for name in op.inputs], op.output), op)


def maximum(writer: ExactWriter, op: MaximumOp) -> None:
    writer.finish(writer.node("Max", [writer.codes(name, "int32") for name in op.inputs], op.output), op)


def activation(writer: ExactWriter, op: ActivationOp) -> None:
    writer.lookup(op, writer.graph.profile.activation(op.function, writer.qparams(op.input), writer.qparams(op.output)))


def leaky_relu(writer: ExactWriter, op: LeakyReluOp) -> None:
    writer.lookup(op, writer.graph.profile.leaky_relu(writer.qparams(op.input), writer.qparams(op.output), op.slope))


def prelu(writer: ExactWriter, op: PreluOp) -> None:
    table = writer.graph.profile.prelu(writer.qparams(op.input), writer.qparams(op.output), op.alpha, op.alpha_scale)
    rows = writer.constant(op.output, "rows", 256 * np.arange(len(op.alpha)).reshape(1, -1, 1, 1), "int32")
    writer.lookup(op, table, writer.node("Add", [writer.codes(op.input, "int32"), rows], op.output, "index"))


def function(writer: ExactWriter, op: FunctionOp) -> None:
    writer.lookup(op, op.table)


def requantize(writer: ExactWriter, op: RequantizeOp) -> None:
    x, y = writer.qparams(op.input), writer.qparams(op.output)
    writer.lookup(op, writer.graph.profile.requantize(x, y))


def clamp(writer: ExactWriter, op: ClampOp) -> None:
    writer.clip(writer.names[op.input], op)


def concat(writer: ExactWriter, op: ConcatOp) -> None:
    writer.emit("Concat", writer.sources(op), op, axis=1)


def slice_(writer: ExactWriter, op: SliceOp) -> None:
    numbers = slice_numbers(op, writer.graph.tensors[op.input].shape)
    constants = [writer.constant(op.output, name, values, "int64") for name, values in numbers.items()]
    writer.emit("Slice", [*writer.sources(op), *constants], op)


def depth_to_space(writer: ExactWriter, op: DepthToSpaceOp) -> None:
    """In float32, which holds codes exactly: runtimes have DepthToSpace of no integers."""
    real = writer.node("DepthToSpace", [writer.codes(op.input, "float32")], op.output, blocksize=op.block, mode="DCR")
    writer.finish(real, op)


def channel_order(writer: ExactWriter, op: ChannelOrderOp) -> None:
    channels = writer.constant(op.output, "channels", op.channels, "int64")
    writer.emit("Gather", [*writer.sources(op), channels], op, axis=1)


def max_pool(writer: ExactWriter, op: MaxPoolOp) -> None:
    writer.emit("MaxPool", writer.sources(op), op, **max_pool_attributes(op))


def resize_nearest(writer: ExactWriter, op: ResizeNearestOp) -> None:
    scales = writer.constant(op.output, "scales", resize_scales(op, writer.graph), "float32")
    writer.emit("Resize", [*writer.sources(op), "", scales], op, **NEAREST)


def resize_bilinear(writer: ExactWriter, op: ResizeBilinearOp) -> None:
    """Weights are multiples of 1/256, so float32 is exact; then sign(v) * floor(abs(v) + 1/2) of the signed v, or where
    the arithmetic rounds ties up floor(v + 1/2)."""
    y = op.output
    node = partial(writer.node, tensor=y)
    scales = writer.constant(y, "scales", resize_scales(op, writer.graph), "float32")
    offset = writer.constant(y, "offset", 128.0, "float32")
    codes = node("Sub", [writer.codes(op.input, "float32"), offset])
    real = node("Resize", [codes, "", scales], **BILINEAR)
    if writer.graph.profile.bilinear_up:
        whole = node("Floor", [node("Add", [real, writer.constant(y, "half", 0.5, "float32")])])
        return writer.finish(node("Add", [whole, offset], what="shifted"), op)
    magnitude = node("Floor", [node("Add", [node("Abs", [real]), writer.constant(y, "half", 0.5, "float32")])])
    return writer.finish(node("Add", [node("Mul", [node("Sign", [real]), magnitude]), offset]), op)


def pad(writer: ExactWriter, op: PadOp) -> None:
    pads = writer.constant(op.output, "pads", pad_amounts(op), "int64")
    zero = writer.constant(op.output, "zero", writer.qparams(op.input).zero_point + 128, "uint8")
    writer.emit("Pad", [*writer.sources(op), pads, zero], op, mode="constant")


def global_average_pool(writer: ExactWriter, op: GlobalAveragePoolOp) -> None:
    block = block_of(writer.graph.tensors[op.input].shape, op.size)
    if op.size != (1, 1):
        return _mean_of_windows(writer, op, {"kernel_shape": list(block), "strides": list(block)})
    axes = writer.constant(op.output, "axes", [2, 3], "int64")
    total = writer.node("ReduceSum", [writer.codes(op.input, "int64"), axes], op.output, "sum", keepdims=1)
    return writer.mean(total, op, block[0] * block[1])


def global_max_pool(writer: ExactWriter, op: GlobalMaxPoolOp) -> None:
    block = list(block_of(writer.graph.tensors[op.input].shape, op.size))
    writer.emit("MaxPool", writer.sources(op), op, kernel_shape=block, strides=block)


def average_pool(writer: ExactWriter, op: AveragePoolOp) -> None:
    _mean_of_windows(writer, op, average_attributes(op))


def _mean_of_windows(writer: ExactWriter, op: AveragePoolOp | GlobalAveragePoolOp, attributes: dict[str, Any]) -> None:
    """Sums of windows are a convolution with ones: of at most 65536 codes, exact in float32."""
    channels, *size = writer.graph.tensors[op.input].shape
    kernel, stride, pads = (attributes.get(name, [0] * 4) for name in ("kernel_shape", "strides", "pads"))
    ones = writer.constant(op.output, "ones", np.ones((channels, 1, *kernel)), "float32")
    inputs = [writer.codes(op.input, "float32"), ones]
    total = writer.node("Conv", inputs, op.output, "sum", group=channels, **attributes)
    total = writer.out.cast(total, "int64", writer.name(op.output, "sum_int"))
    count = F.avg_pool2d(torch.ones(1, 1, *size), kernel, stride, pads[:2], divisor_override=1).long().numpy()
    writer.mean(total, op, count if any(pads) else kernel[0] * kernel[1])


FORMS: Forms[ExactWriter] = {
    ActivationOp: activation,
    AddOp: pair,
    AveragePoolOp: average_pool,
    ChannelOrderOp: channel_order,
    ClampOp: clamp,
    ConcatOp: concat,
    ConvOp: conv,
    ConvTransposeOp: conv_transpose,
    DepthToSpaceOp: depth_to_space,
    FloatOp: ISLAND,
    FunctionOp: function,
    GlobalAveragePoolOp: global_average_pool,
    GlobalMaxPoolOp: global_max_pool,
    LeakyReluOp: leaky_relu,
    MaxPoolOp: max_pool,
    MaximumOp: maximum,
    MinimumOp: minimum,
    MulOp: pair,
    PadOp: pad,
    PreluOp: prelu,
    RequantizeOp: requantize,
    ResizeBilinearOp: resize_bilinear,
    ResizeNearestOp: resize_nearest,
    SliceOp: slice_,
    SubOp: pair,
}
