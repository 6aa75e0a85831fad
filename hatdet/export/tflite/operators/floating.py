"""How the float ``.tflite`` file says each operator."""

from __future__ import annotations

from typing import Any

from hatdet.export.float_graph import FloatOp
from hatdet.export.forms import ISLAND, NO_SCALES, Form, Forms, Refusal, by_function
from hatdet.export.tflite.float_writer import FloatWriter, survives_half
from hatdet.export.tflite.operators import common
from hatdet.export.tflite.options import ACTIVATIONS, conv_settings, store_weight
from hatdet.export.tflite.padding import plan_padding
from hatdet.export.tflite.transposed import emit_transposed, plan_of, stored_kernel
from hatdet.integer.operators.island import FloatOp as IslandOp
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
from hatdet.integer.operators.pointwise.function import FUNCTIONS as REAL_FUNCTIONS
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


def conv(writer: FloatWriter, op: FloatOp) -> None:
    assert op.weight is not None and op.bias is not None
    channels, *size = writer.shapes[op.inputs[0]]
    plan = plan_padding((size[0], size[1]), op.weight.shape[2:], op.stride, op.padding, op.dilation)
    source = writer.padded(op.inputs[0], plan, "zero")
    stored = store_weight(op.weight, op.groups, channels)
    weight = writer.parameter(f"{op.name}/weight", stored.data, keep=not survives_half(op.weight))
    bias = writer.parameter(f"{op.name}/bias", op.bias, keep=not survives_half(op.bias))
    settings = conv_settings(stored, plan.mode, op.stride, op.dilation, op.activation)
    writer.emit(stored.code, op, [source, weight, bias], stored.version, **settings)


def conv_transpose(writer: FloatWriter, op: FloatOp) -> None:
    assert op.weight is not None and op.bias is not None
    plan = plan_of(writer, op)
    kernel = stored_kernel(op.weight, plan.zeros)
    weight = writer.parameter(f"{op.name}/weight", kernel, keep=not survives_half(op.weight))
    bias = writer.parameter(f"{op.name}/bias", op.bias, keep=not survives_half(op.bias))
    code = ACTIVATIONS.get(op.activation, "NONE")
    clamped = None if code == "NONE" else (code, dict[str, Any]())
    emit_transposed(writer, op, plan, (weight, bias), lambda name, s: writer.tensor(name, (1, *s[1:], s[0])), clamped)


def pad(writer: FloatWriter, op: FloatOp) -> None:
    writer.pad(writer.index[op.inputs[0]], writer.value(op.output), op.padding)


def depth_to_space(writer: FloatWriter, op: FloatOp) -> None:
    writer.emit("DEPTH_TO_SPACE", op, blockSize=op.block)


def channel_order(writer: FloatWriter, op: FloatOp) -> None:
    writer.emit("GATHER", op, [*writer.sources(op), writer.integers(f"{op.name}/channels", op.channels)], axis=3)


def clamp(writer: FloatWriter, op: FloatOp) -> None:
    if op.activation in ACTIVATIONS:
        writer.emit(ACTIVATIONS[op.activation], op)
    else:
        writer.value(op.output)
        writer.activation(op, writer.index[op.inputs[0]])


def clamp_function(writer: FloatWriter, op: FloatOp) -> None:
    writer.limit(op, writer.index[op.inputs[0]], writer.value(op.output), *op.numbers)


def hardsigmoid(writer: FloatWriter, op: FloatOp) -> None:
    writer.hardsigmoid(op, writer.index[op.inputs[0]], writer.value(op.output))


def prelu(writer: FloatWriter, op: FloatOp) -> None:
    assert op.weight is not None
    keep = not survives_half(op.weight)
    alpha = writer.parameter(f"{op.name}/alpha", op.weight.reshape(1, 1, -1), keep=keep)
    writer.emit("PRELU", op, [*writer.sources(op), alpha])


def sigmoid(writer: FloatWriter, op: FloatOp) -> None:
    writer.emit("LOGISTIC", op)


def silu(writer: FloatWriter, op: FloatOp) -> None:
    gate = writer.step("LOGISTIC", writer.sources(op), writer.like_output(op, "sigmoid"))
    writer.emit("MUL", op, [*writer.sources(op), gate])


def elu(writer: FloatWriter, op: FloatOp) -> None:
    if op.numbers != (1.0,):
        Refusal(f"is an ELU with alpha={op.numbers[0]:g}, which the format does not have", ELSEWHERE)(writer, op)
    writer.emit("ELU", op)


def power(writer: FloatWriter, op: FloatOp) -> None:
    writer.emit("POW", op, [*writer.sources(op), writer.number(f"{op.name}/exponent", op.numbers[0])])


ELSEWHERE = "use the int8 file, or --format onnx"
NO_FUNCTION = Refusal("computes a function that the float .tflite format does not have", ELSEWHERE)
BY_FUNCTION: dict[str, Form[FloatWriter]] = {
    **dict.fromkeys(REAL_FUNCTIONS, NO_FUNCTION),
    "abs": lambda writer, op: writer.emit("ABS", op),
    "clamp": clamp_function,
    "cos": lambda writer, op: writer.emit("COS", op),
    "elu": elu,
    "exp": lambda writer, op: writer.emit("EXP", op),
    "gelu": lambda writer, op: writer.emit("GELU", op, approximate=False),
    "gelu_tanh": lambda writer, op: writer.emit("GELU", op, approximate=True),
    "pow": power,
    "sin": lambda writer, op: writer.emit("SIN", op),
    "square": lambda writer, op: writer.emit("SQUARE", op),
}
FUNCTIONS: dict[str, Form[FloatWriter]] = {
    "hardsigmoid": hardsigmoid,
    "hardswish": common.hardswish,
    "sigmoid": sigmoid,
    "silu": silu,
    "tanh": lambda writer, op: writer.emit("TANH", op),
}

FORMS: Forms[FloatWriter] = {
    ActivationOp: by_function(FUNCTIONS),
    AddOp: common.add,
    AveragePoolOp: common.average_pool,
    ChannelOrderOp: channel_order,
    ClampOp: clamp,
    ConcatOp: common.concat,
    ConvOp: conv,
    ConvTransposeOp: conv_transpose,
    DepthToSpaceOp: depth_to_space,
    FunctionOp: by_function(BY_FUNCTION),
    GlobalAveragePoolOp: common.global_average_pool,
    GlobalMaxPoolOp: common.global_max_pool,
    IslandOp: ISLAND,
    LeakyReluOp: common.leaky_relu,
    MaxPoolOp: common.max_pool,
    MaximumOp: common.maximum,
    MinimumOp: common.minimum,
    MulOp: common.mul,
    PadOp: pad,
    PreluOp: prelu,
    RequantizeOp: NO_SCALES,
    ResizeBilinearOp: common.resize_bilinear,
    ResizeNearestOp: common.resize_nearest,
    SliceOp: common.slice_,
    SubOp: common.sub,
}
