"""How the ONNX file in QDQ form says each operator."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hatdet.export.forms import ISLAND, Form, Forms, by_function
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
from hatdet.export.onnx.qdq_writer import QdqWriter
from hatdet.export.tflite.limits import bias_scale
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
from hatdet.integer.operators.pointwise.activation_codes import UNIT_INTERVAL
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
from hatdet.integer.operators.windows.weighted import WeightedOp
from hatdet.integer.operators.windows.window import block_of


def conv(writer: QdqWriter, op: ConvOp) -> None:
    y = op.output
    weight, bias = _parameters(writer, op, op.weight, 0)
    real = writer.node("Conv", [writer.real(op.input), weight, bias], y, **conv_attributes(op))
    if writer.qparams(y).bits == 16:
        _quantize16(writer, real, op)
    else:
        writer.quantize(real, op)


def _parameters(writer: QdqWriter, op: WeightedOp, stored: NDArray[np.int8], axis: int) -> tuple[str, str]:
    """Weight and bias, dequantized; ``axis``: the stored weight's dimension of output channels."""
    y = op.output
    # Of its own: onnxruntime makes unsigned weights of signed ones on some processors, and fails where nodes share it.
    zeros = writer.out.constant(writer.name(y, "weight_zero_point"), np.zeros(len(op.weight_scale), np.int8), own=True)
    weight = writer.constant(y, "weight", stored, "int8")
    scale = writer.constant(y, "weight_scale", op.weight_scale, "float32")
    weight = writer.node("DequantizeLinear", [weight, scale, zeros], y, "weight_real", axis=axis)
    bias = writer.constant(y, "bias", op.bias, "int32")
    scale = writer.constant(y, "bias_scale", bias_scale(writer.qparams(op.input).scale, op.weight_scale), "float32")
    return weight, writer.node("DequantizeLinear", [bias, scale], y, "bias_real", axis=0)


def _quantize16(writer: QdqWriter, real: str, op: ConvOp) -> None:
    """As QuantizeLinear would to int16, which older runtimes do not have: round(real / scale), clamped."""
    y = op.output
    scale = writer.constant(y, "scale", writer.qparams(y).scale, "float32")
    low, high = (writer.constant(y, what, v, "float32") for what, v in (("lo", op.lo), ("hi", op.hi)))
    rounded = writer.node("Round", [writer.node("Div", [real, scale], y)], y)
    writer.finish(writer.node("Clip", [rounded, low, high], y), op)


def conv_transpose(writer: QdqWriter, op: ConvTransposeOp) -> None:
    parameters = _parameters(writer, op, op.weight.swapaxes(0, 1), 1)
    attributes = conv_transpose_attributes(op)
    writer.quantize(writer.node("ConvTranspose", [writer.real(op.input), *parameters], op.output, **attributes), op)


def add(writer: QdqWriter, op: AddOp) -> None:
    writer.quantize(writer.node("Add", writer.reals(op), op.output), op)


def mul(writer: QdqWriter, op: MulOp) -> None:
    writer.quantize(writer.node("Mul", writer.reals(op), op.output), op)


def leaky_relu(writer: QdqWriter, op: LeakyReluOp) -> None:
    writer.quantize(writer.node("LeakyRelu", writer.reals(op), op.output, alpha=op.slope), op)


def prelu(writer: QdqWriter, op: PreluOp) -> None:
    real = (op.alpha * np.float32(op.alpha_scale)).reshape(-1, 1, 1)
    slopes = writer.constant(op.output, "slopes", real, "float32")
    writer.quantize(writer.node("PRelu", [*writer.reals(op), slopes], op.output), op)


def function(writer: QdqWriter, op: FunctionOp) -> None:
    """By the table of codes: older opsets have not every function."""
    table = writer.constant(op.output, "table", op.table.astype(np.int16) + 128, "uint8")
    index = writer.out.cast(writer.names[op.input], "int32", writer.name(op.output, "index"))
    writer.emit("Gather", [table, index], op, axis=0)


def sub(writer: QdqWriter, op: SubOp) -> None:
    writer.quantize(writer.node("Sub", writer.reals(op), op.output), op)


def minimum(writer: QdqWriter, op: MinimumOp) -> None:
    writer.quantize(writer.node("Min", writer.reals(op), op.output), op)


def maximum(writer: QdqWriter, op: MaximumOp) -> None:
    writer.quantize(writer.node("Max", writer.reals(op), op.output), op)


def requantize(writer: QdqWriter, op: RequantizeOp) -> None:
    writer.quantize(writer.real(op.input), op)


def clamp(writer: QdqWriter, op: ClampOp) -> None:
    writer.clip(writer.names[op.input], op)


def hardswish(writer: QdqWriter, op: ActivationOp) -> None:
    x = writer.real(op.input)
    writer.quantize(writer.node("Mul", [x, _hard_gate(writer, x, op)], op.output), op)


def hardsigmoid(writer: QdqWriter, op: ActivationOp) -> None:
    writer.quantize(_hard_gate(writer, writer.real(op.input), op), op)


def _hard_gate(writer: QdqWriter, x: str, op: ActivationOp) -> str:
    return writer.node("HardSigmoid", [x], op.output, alpha=1.0 / 6.0, beta=0.5)


def sigmoid(writer: QdqWriter, op: ActivationOp) -> None:
    writer.quantize(writer.node("Sigmoid", writer.reals(op), op.output), op)


def tanh(writer: QdqWriter, op: ActivationOp) -> None:
    writer.quantize(writer.node("Tanh", writer.reals(op), op.output), op)


def silu(writer: QdqWriter, op: ActivationOp) -> None:
    y = op.output
    gate = writer.node("Sigmoid", writer.reals(op), y)
    params = writer.params(writer.name(y, "sigmoid"), UNIT_INTERVAL)
    codes = writer.node("QuantizeLinear", [gate, *params], y, "sigmoid_codes")
    gate = writer.node("DequantizeLinear", [codes, *params], y, "sigmoid_real")
    writer.quantize(writer.node("Mul", [writer.real(op.input), gate], y), op)


def concat(writer: QdqWriter, op: ConcatOp) -> None:
    writer.quantize(writer.node("Concat", writer.reals(op), op.output, axis=1), op)


def slice_(writer: QdqWriter, op: SliceOp) -> None:
    numbers = slice_numbers(op, writer.graph.tensors[op.input].shape)
    constants = [writer.constant(op.output, name, values, "int64") for name, values in numbers.items()]
    writer.quantize(writer.node("Slice", [*writer.reals(op), *constants], op.output), op)


def depth_to_space(writer: QdqWriter, op: DepthToSpaceOp) -> None:
    real = writer.node("DepthToSpace", writer.reals(op), op.output, blocksize=op.block, mode="DCR")
    writer.quantize(real, op)


def channel_order(writer: QdqWriter, op: ChannelOrderOp) -> None:
    channels = writer.constant(op.output, "channels", op.channels, "int64")
    writer.quantize(writer.node("Gather", [*writer.reals(op), channels], op.output, axis=1), op)


def max_pool(writer: QdqWriter, op: MaxPoolOp) -> None:
    writer.quantize(writer.node("MaxPool", writer.reals(op), op.output, **max_pool_attributes(op)), op)


def average_pool(writer: QdqWriter, op: AveragePoolOp) -> None:
    writer.quantize(writer.node("AveragePool", writer.reals(op), op.output, **average_attributes(op)), op)


def global_average_pool(writer: QdqWriter, op: GlobalAveragePoolOp) -> None:
    if op.size == (1, 1):
        return writer.quantize(writer.node("GlobalAveragePool", writer.reals(op), op.output), op)
    return _pooled(writer, "AveragePool", op)


def global_max_pool(writer: QdqWriter, op: GlobalMaxPoolOp) -> None:
    _pooled(writer, "MaxPool", op)


def _pooled(writer: QdqWriter, kind: str, op: GlobalAveragePoolOp | GlobalMaxPoolOp) -> None:
    block = list(block_of(writer.graph.tensors[op.input].shape, op.size))
    writer.quantize(writer.node(kind, writer.reals(op), op.output, kernel_shape=block, strides=block), op)


def resize_nearest(writer: QdqWriter, op: ResizeNearestOp) -> None:
    _resize(writer, op, NEAREST)


def resize_bilinear(writer: QdqWriter, op: ResizeBilinearOp) -> None:
    _resize(writer, op, BILINEAR)


def _resize(writer: QdqWriter, op: ResizeNearestOp | ResizeBilinearOp, attributes: dict[str, str]) -> None:
    scales = writer.constant(op.output, "scales", resize_scales(op, writer.graph), "float32")
    writer.quantize(writer.node("Resize", [*writer.reals(op), "", scales], op.output, **attributes), op)


def pad(writer: QdqWriter, op: PadOp) -> None:
    pads = writer.constant(op.output, "pads", pad_amounts(op), "int64")
    zero = writer.constant(op.output, "padding", 0.0, "float32")
    writer.quantize(writer.node("Pad", [*writer.reals(op), pads, zero], op.output, mode="constant"), op)


FUNCTIONS: dict[str, Form[QdqWriter]] = {
    "hardsigmoid": hardsigmoid,
    "hardswish": hardswish,
    "sigmoid": sigmoid,
    "silu": silu,
    "tanh": tanh,
}

FORMS: Forms[QdqWriter] = {
    ActivationOp: by_function(FUNCTIONS),
    AddOp: add,
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
    MulOp: mul,
    PadOp: pad,
    PreluOp: prelu,
    RequantizeOp: requantize,
    ResizeBilinearOp: resize_bilinear,
    ResizeNearestOp: resize_nearest,
    SliceOp: slice_,
    SubOp: sub,
}
