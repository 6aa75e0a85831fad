"""How the int8 ``.tflite`` file says each operator.

What a kernel could not compute with is said in another way that gives the same codes:
``arithmetic.stored_weight_scale``, ``Profile.gate_input``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hatdet.export.forms import ISLAND, Form, Forms, by_function
from hatdet.export.tflite.flatbuffer import INT16_VERSIONS
from hatdet.export.tflite.int4 import INT4_VERSIONS, is_packed
from hatdet.export.tflite.int8_writer import Int8Writer
from hatdet.export.tflite.operators import common
from hatdet.export.tflite.options import (
    ACTIVATIONS,
    StoredWeight,
    conv_settings,
    pad_amounts,
    pool_settings,
    store_weight,
)
from hatdet.export.tflite.transposed import emit_transposed, plan_of, stored_kernel
from hatdet.integer.arithmetic import stored_weight_scale
from hatdet.integer.operators.base import Operator
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
from hatdet.integer.operators.pointwise.activation_codes import (
    HARDSIGMOID_WEIGHT,
    HARDSIGMOID_WEIGHT_SCALE,
    UNIT_INTERVAL,
    hardsigmoid_bias,
)
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
from hatdet.integer.tensors import QuantParams

LARGEST_TRANSPOSED = 1 << 16
"""Positions of a map that Ethos-U transposes."""


def conv(writer: Int8Writer, op: ConvOp) -> None:
    channels, *size = writer.shapes[op.input]
    weight, plan = writer.placed(op, (size[0], size[1]))
    source = writer.padded(op.input, plan, "zero")
    stored = store_weight(weight, op.groups, channels)
    x, y = writer.qparams(op.input), writer.qparams(op.output)
    wide, version = y.bits == 16, stored.version
    packed = writer.packs and is_packed(op, y.bits)
    version = max(version or 0, INT4_VERSIONS[stored.code]) if packed else version
    scales = op.weight_scale if wide else stored_weight_scale(x.scale, op.weight_scale, y.scale)
    parameters = writer.weight(op.name, stored, scales, packed)
    if wide:
        source, version = writer.widened(source, op.input), version or INT16_VERSIONS[stored.code]
    inputs = [source, parameters, writer.bias(op.name, op.bias, x.scale, scales, wide)]
    settings = conv_settings(stored, plan.mode, op.stride, op.dilation, op.activation)
    writer.emit(stored.code, op, inputs, version, **settings)


def conv_transpose(writer: Int8Writer, op: ConvTransposeOp) -> None:
    """Its activation stands behind it, where the codes do not end there anyway: not all versions have it fused."""
    x, y, plan = writer.qparams(op.input), writer.qparams(op.output), plan_of(writer, op)
    scales = stored_weight_scale(x.scale, op.weight_scale, y.scale)
    stored = StoredWeight("TRANSPOSE_CONV", stored_kernel(op.weight, plan.zeros), 0, 0, None)
    parameters = writer.weight(op.name, stored, scales), writer.bias(op.name, op.bias, x.scale, scales)
    pooled = op.activation in ACTIVATIONS and writer.limits(op)
    clamped = ("MAX_POOL_2D", pool_settings((1, 1), activation=op.activation)) if pooled else None
    emit_transposed(writer, op, plan, parameters, lambda name, shape: writer.tensor(name, shape, y), clamped)


def clamp(writer: Int8Writer, op: ClampOp) -> None:
    """A pool of single pixels, whose fused activation both reference runtimes compute alike; RELU6 they do not."""
    if op.activation in ACTIVATIONS or not writer.limits(op):
        writer.emit("MAX_POOL_2D", op, **pool_settings((1, 1), activation=op.activation))
    else:
        writer.activation(op, writer.index[op.input])


def pad(writer: Int8Writer, op: PadOp) -> None:
    amounts = writer.integers(f"{op.name}/paddings", pad_amounts(*op.padding))
    writer.emit("PAD", op, [*writer.sources(op), amounts])


def function(writer: Int8Writer, op: FunctionOp) -> None:
    """table[code + 128] with int32 indices: operators that every runtime has, and that move integers alone."""
    c, h, w = writer.shapes[op.input]

    def indices(what: str) -> int:
        return writer.model.tensor(f"{writer.names[op.output]}/{what}", (1, h, w, c), "INT32")

    code = writer.step("CAST", writer.sources(op), indices("code"), inDataType="INT8", outDataType="INT32")
    index = writer.step("ADD", [code, writer.integers("table_middle", [128])], indices("index"), 1)
    table = writer.codes(f"{op.name}/table", op.table, writer.qparams(op.output))
    writer.emit("GATHER", op, [table, index], axis=0)


def depth_to_space(writer: Int8Writer, op: DepthToSpaceOp) -> None:
    """The rows of the blocks, each a part of the channels, joined between rows: DEPTH_TO_SPACE itself is no operator of
    Ethos-U, and these are. A reshaping costs nothing there."""
    (c, h, w), (channels, rows, columns) = writer.shapes[op.input], writer.shapes[op.output]
    depth, flat, parts = c // op.block, (1, h, 1, w * c // op.block), []
    for row in range(op.block):
        ends = [[0, 0, 0, row * depth], [1, h, w, (row + 1) * depth], [1, 1, 1, 1]]
        numbers = [writer.integers(f"{op.name}/{row}_{i}", end) for i, end in enumerate(ends)]
        part = _moved(writer, op, "STRIDED_SLICE", [*writer.sources(op), *numbers], (1, h, w, depth), f"row_{row}")
        inputs = [part, writer.integers(f"{op.name}/flat", flat)]
        parts.append(_moved(writer, op, "RESHAPE", inputs, flat, f"flat_{row}"))
    joined = _moved(writer, op, "CONCATENATION", parts, (1, h, op.block, w * depth), "rows", axis=2)
    writer.emit("RESHAPE", op, [joined, writer.integers(f"{op.name}/size", (1, rows, columns, channels))])


def channel_order(writer: Int8Writer, op: ChannelOrderOp) -> None:
    """A shuffle is a transposition. Any other order is a convolution with one weight of 1 for each channel: its
    multiplier is 1 exactly, and the NPU has it; GATHER would be left to the CPU."""
    c, h, w = writer.shapes[op.input]
    groups = op.groups(c)
    if groups > 1 and h * w <= LARGEST_TRANSPOSED:
        apart, turned = (1, h * w, groups, c // groups), (1, h * w, c // groups, groups)
        source = [*writer.sources(op), writer.integers(f"{op.name}/apart", apart)]
        source = [_moved(writer, op, "RESHAPE", source, apart, "apart"), writer.integers("turn", (0, 1, 3, 2))]
        made = _moved(writer, op, "TRANSPOSE", source, turned, "turned")
        return writer.emit("RESHAPE", op, [made, writer.integers(f"{op.name}/size", (1, h, w, c))])
    weight = np.zeros((len(op.channels), c, 1, 1), dtype=np.int8)
    weight[range(len(op.channels)), op.channels] = 1
    stored, ones = store_weight(weight, 1, weight.shape[1]), np.ones(len(weight), dtype=np.float32)
    bias = writer.bias(op.name, np.zeros(len(weight), np.int32), writer.qparams(op.input).scale, ones)
    inputs = [*writer.sources(op), writer.weight(op.name, stored, ones), bias]
    return writer.emit(stored.code, op, inputs, **conv_settings(stored, "VALID", (1, 1), (1, 1), "none"))


def _moved(
    writer: Int8Writer, op: Operator, code: str, sources: list[int], shape: Sequence[int], what: str, **settings: Any
) -> int:
    """A step on the way to the output that moves codes to another shape."""
    q = writer.qparams(op.output)
    name, scale = f"{writer.names[op.output]}/{what}", np.array([q.scale], dtype=np.float32)
    made = writer.model.tensor(name, tuple(shape), "INT8", scale, q.zero_point)
    return writer.step(code, sources, made, **settings)


def prelu(writer: Int8Writer, op: PreluOp) -> None:
    alpha = writer.codes(f"{op.name}/alpha", op.alpha.reshape(1, 1, -1), QuantParams(op.alpha_scale, 0))
    writer.emit("PRELU", op, [*writer.sources(op), alpha])


def requantize(writer: Int8Writer, op: RequantizeOp) -> None:
    writer.emit("QUANTIZE", op)


def sigmoid(writer: Int8Writer, op: ActivationOp) -> None:
    writer.emit("LOGISTIC", op, [_gate_input(writer, op)])


def silu(writer: Int8Writer, op: ActivationOp) -> None:
    read = _gate_input(writer, op)
    gate = writer.step("LOGISTIC", [read], writer.like_output(op, "sigmoid", UNIT_INTERVAL))
    writer.emit("MUL", op, [*writer.sources(op), gate])


def tanh(writer: Int8Writer, op: ActivationOp) -> None:
    writer.emit("TANH", op, [_gate_input(writer, op)])


def _gate_input(writer: Int8Writer, op: ActivationOp) -> int:
    """The input, in another quantization where the kernel of a gate could not compute with its own."""
    x = writer.qparams(op.input)
    read = writer.graph.profile.gate_input(x, op.function)
    if read == x:
        return writer.index[op.input]
    return writer.step("QUANTIZE", writer.sources(op), writer.like_output(op, "gate_input", read))


def hardsigmoid(writer: Int8Writer, op: ActivationOp) -> None:
    """x / 6 + 1/2 as a depthwise convolution; its output saturates at 0 and 255/256."""
    channels, x = writer.shapes[op.input][0], writer.qparams(op.input)
    scales = np.full(channels, HARDSIGMOID_WEIGHT_SCALE, dtype=np.float32)
    scales = stored_weight_scale(x.scale, scales, UNIT_INTERVAL.scale)
    stored = store_weight(np.full((channels, 1, 1, 1), HARDSIGMOID_WEIGHT, dtype=np.int8), channels, channels)
    bias = np.full(channels, hardsigmoid_bias(x), dtype=np.int32)
    parameters = [writer.weight(op.name, stored, scales), writer.bias(op.name, bias, x.scale, scales)]
    settings = conv_settings(stored, "VALID", (1, 1), (1, 1), "none")
    writer.emit(stored.code, op, [*writer.sources(op), *parameters], **settings)


FUNCTIONS: dict[str, Form[Int8Writer]] = {
    "hardsigmoid": hardsigmoid,
    "hardswish": common.hardswish,
    "sigmoid": sigmoid,
    "silu": silu,
    "tanh": tanh,
}

FORMS: Forms[Int8Writer] = {
    ActivationOp: by_function(FUNCTIONS),
    AddOp: common.add,
    AveragePoolOp: common.average_pool,
    ChannelOrderOp: channel_order,
    ClampOp: clamp,
    ConcatOp: common.concat,
    ConvOp: conv,
    ConvTransposeOp: conv_transpose,
    DepthToSpaceOp: depth_to_space,
    FloatOp: ISLAND,
    FunctionOp: function,
    GlobalAveragePoolOp: common.global_average_pool,
    GlobalMaxPoolOp: common.global_max_pool,
    LeakyReluOp: common.leaky_relu,
    MaxPoolOp: common.max_pool,
    MaximumOp: common.maximum,
    MinimumOp: common.minimum,
    MulOp: common.mul,
    PadOp: pad,
    PreluOp: prelu,
    RequantizeOp: requantize,
    ResizeBilinearOp: common.resize_bilinear,
    ResizeNearestOp: common.resize_nearest,
    SliceOp: common.slice_,
    SubOp: common.sub,
}
