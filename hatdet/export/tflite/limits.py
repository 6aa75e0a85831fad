"""What a ``.tflite`` file can carry and its reference kernels can compute without overflow: checked before writing.

A refusal is a :class:`~hatdet.utils.errors.UserError` with the operator's name, what was found and what is allowed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from hatdet.export.forms import check_ends
from hatdet.integer.arithmetic import activation_limits, conv_multiplier, quantize_multiplier, stored_weight_scale
from hatdet.integer.graph import IntGraph
from hatdet.integer.operators.pairs.add import AddOp
from hatdet.integer.operators.pairs.mul import MulOp, mul_kernels_agree, mul_multiplier
from hatdet.integer.operators.pairs.sub import SubOp
from hatdet.integer.operators.pointwise.activation import ActivationOp
from hatdet.integer.operators.pointwise.activation_codes import (
    FIXED_OUTPUTS,
    HARDSIGMOID_WEIGHT,
    HARDSIGMOID_WEIGHT_SCALE,
    UNIT_INTERVAL,
    hardsigmoid_bias,
    hardswish_multipliers,
    kernels_agree,
)
from hatdet.integer.operators.pointwise.clamp import ClampOp
from hatdet.integer.operators.pointwise.leaky_relu import LeakyReluOp
from hatdet.integer.operators.pointwise.leaky_relu import kernels_agree as leaky_kernels_agree
from hatdet.integer.operators.pointwise.prelu import PreluOp
from hatdet.integer.operators.pointwise.requantize import RequantizeOp
from hatdet.integer.operators.windows.conv import ConvOp
from hatdet.integer.operators.windows.conv_transpose import ConvTransposeOp
from hatdet.integer.operators.windows.weighted import WeightedOp
from hatdet.integer.tensors import QuantParams
from hatdet.utils.errors import UserError

INT32_MAX = 2**31 - 1
LARGEST_GATE_SCALE = 2.0**19
"""A sigmoid's input is requantized to ``activation_codes.GATE_INPUT``: 2**23 times finer at most, in int32."""


def check_graph(graph: IntGraph) -> None:
    """Check every operator; the first one that the file cannot carry exactly is refused."""
    check_ends(graph)
    for op in graph.ops:
        if type(op) in CHECKS:
            CHECKS[type(op)](graph, op)


def _check_conv(graph: IntGraph, op: WeightedOp) -> None:
    x, y = graph.qparams(op.input), graph.qparams(op.output)
    if op.weight.min() < -127:
        raise UserError(
            f"convolution {op.name!r} has a weight of -128; the int8 format allows [-127, 127]: "
            "quantize weights symmetrically"
        )
    _check_limits(graph, op)
    for scale in op.weight_scale:
        if not (np.isfinite(scale) and scale > 0):
            raise UserError(
                f"convolution {op.name!r} has the weight scale {scale}; scales are positive and finite: "
                "train or calibrate the model again"
            )
    if not np.all(bias_scale(x.scale, op.weight_scale) > 0):
        raise UserError(
            f"convolution {op.name!r}: input scale times weight scale underflows float32; are its weights all 0?"
        )
    span = max(x.zero_point + 128, 127 - x.zero_point)
    bound = np.abs(op.weight.astype(np.int64)).reshape(op.weight.shape[0], -1).sum(1) * span
    bound += np.abs(op.bias.astype(np.int64))
    multiplier = conv_multiplier(x.scale, op.weight_scale, y.scale)
    if y.bits == 16:
        _check_wide(op.name, multiplier, bound)
    else:
        _check_left_shift(op.name, *quantize_multiplier(multiplier), bound=bound)


def _check_wide(name: str, multiplier: np.ndarray, bound: np.ndarray) -> None:
    """A convolution to 16 bits accumulates in int64; its result before the clamp must fit int32."""
    if np.any(multiplier >= 2.0**7) or np.any(bound * multiplier > INT32_MAX):
        raise UserError(
            f"convolution {name!r}: its output scale is {float(multiplier.max()):.3g} times smaller than that of its "
            "sums, which 16-bit kernels do not take; is the output constant? calibrate on more images"
        )


def bias_scale(input_scale: float, weight_scale: np.ndarray) -> np.ndarray:
    """Scales of the int32 bias, Sx * Sw_c rounded to float32 as the file stores them. Shape (O,)."""
    return (np.float32(input_scale) * weight_scale.astype(np.float32)).astype(np.float32)


def _check_left_shift(name: str, m: np.ndarray, e: np.ndarray, bound: np.ndarray | int) -> None:
    """The reference kernels shift the accumulator left in int32 where a multiplier exceeds 1."""
    shifted = np.asarray(bound, dtype=np.float64) * np.exp2(np.maximum(e, 0).astype(np.float64))
    if np.any(shifted > INT32_MAX):
        raise UserError(
            f"operator {name!r}: an accumulator can reach {int(np.max(shifted))}, beyond int32; its output scale is "
            "too small for its input (calibrate on more images, or widen the output's range)"
        )


def _check_requantize(graph: IntGraph, op: RequantizeOp) -> None:
    ratio = np.float64(graph.qparams(op.input).scale) / np.float64(graph.qparams(op.output).scale)
    _check_left_shift(op.name, *quantize_multiplier(ratio), bound=255)


def _check_sum(graph: IntGraph, op: AddOp | SubOp) -> None:
    _check_limits(graph, op)
    s1, s2, sy = (np.float64(graph.qparams(n).scale) for n in (op.input1, op.input2, op.output))
    multiplier = 2.0 * max(s1, s2) / (float(1 << 20) * sy)
    if multiplier >= 1.0:
        raise UserError(
            f"operator {op.name!r} ({op.kind}): the larger input scale {max(s1, s2):g} is more than 2**19 output "
            f"scales ({sy:g}); the kernel's output multiplier must be below 1"
        )


def _check_mul(graph: IntGraph, op: MulOp) -> None:
    _check_product(op.name, *(graph.qparams(n).scale for n in (op.input1, op.input2, op.output)))


def _check_product(name: str, scale1: float, scale2: float, output_scale: float) -> None:
    """Products are told in float32 by one reference runtime and in float64 by the other: both must say the same."""
    _check_left_shift(name, *quantize_multiplier(mul_multiplier(scale1, scale2, output_scale)), bound=255 * 255)
    if not mul_kernels_agree(scale1, scale2, output_scale):
        raise UserError(
            f"operator {name!r}: with the scales {scale1!r}, {scale2!r} and {output_scale!r} LiteRT and TFLite Micro "
            "round some products differently; take the output scale from pairs.mul.agreeing_output_scale"
        )


def _check_prelu(graph: IntGraph, op: PreluOp) -> None:
    sx, sy = graph.qparams(op.input).scale, graph.qparams(op.output).scale
    for slope in (1.0, op.alpha_scale):
        _check_product(op.name, sx, slope, sy)


def _check_leaky_relu(graph: IntGraph, op: LeakyReluOp) -> None:
    sx, sy = graph.qparams(op.input).scale, graph.qparams(op.output).scale
    _check_left_shift(op.name, *quantize_multiplier(np.float64(sx * max(1.0, op.slope) / sy)), bound=255)
    if not leaky_kernels_agree(sx, sy, op.slope):
        raise UserError(
            f"operator {op.name!r}: with the scales {sx!r} and {sy!r} LiteRT and TFLite Micro round some values "
            "differently; take the output scale from leaky_relu.agreeing_output_scale"
        )


def _check_activation(graph: IntGraph, op: ActivationOp) -> None:
    if op.function not in FUNCTIONS:
        raise UserError(f"operator {op.name!r}: unknown activation {op.function!r}; use one of {', '.join(FUNCTIONS)}")
    FUNCTIONS[op.function](op, graph.qparams(op.input), graph.qparams(op.output))


def _check_gate_alone(op: ActivationOp, x: QuantParams, y: QuantParams) -> None:
    _check_fixed_output(op, y)
    _check_agreement(op, x, y)
    _check_gate(op, x)


def _check_silu(op: ActivationOp, x: QuantParams, y: QuantParams) -> None:
    _check_agreement(op, x, y)
    _check_gate(op, x)
    _check_product(op.name, x.scale, UNIT_INTERVAL.scale, y.scale)


def _check_hardsigmoid(op: ActivationOp, x: QuantParams, y: QuantParams) -> None:
    _check_fixed_output(op, y)
    _check_agreement(op, x, y)
    scale = stored_weight_scale(x.scale, np.array([HARDSIGMOID_WEIGHT_SCALE], dtype=np.float32), y.scale)
    bound = HARDSIGMOID_WEIGHT * 255 + hardsigmoid_bias(x)
    _check_left_shift(op.name, *quantize_multiplier(conv_multiplier(x.scale, scale, y.scale)), bound=bound)


def _check_hardswish(op: ActivationOp, x: QuantParams, y: QuantParams) -> None:
    _check_agreement(op, x, y)
    _, out_exponent, _, exponent = hardswish_multipliers(x, y)
    if not (-15 <= out_exponent <= 0 and -15 <= exponent <= 30):
        raise UserError(
            f"hard-swish {op.name!r}: the kernel's 16-bit arithmetic does not hold the input scale {x.scale:g} "
            f"with the output scale {y.scale:g}; the input scale must be below 128 output scales"
        )


def _check_fixed_output(op: ActivationOp, y: QuantParams) -> None:
    if y != (demanded := FIXED_OUTPUTS[op.function]):
        raise UserError(f"{op.function} {op.name!r}: its output must be quantized with {demanded}, got {y}")


def _check_agreement(op: ActivationOp, x: QuantParams, y: QuantParams) -> None:
    if not kernels_agree(op.function, x, y):
        raise UserError(
            f"operator {op.name!r}: LiteRT and TFLite Micro may round its {op.function} of {x} differently; take the "
            "input scale from activations.agreeing_input_scale"
        )


def _check_gate(op: ActivationOp, x: QuantParams) -> None:
    if x.scale >= LARGEST_GATE_SCALE:
        raise UserError(
            f"{op.function} {op.name!r}: its input reaches {255 * x.scale:.3g}, and {255 * LARGEST_GATE_SCALE:.3g} is "
            "the most that its kernels take; is the training stable? normalize what comes before it"
        )


def _check_limits(graph: IntGraph, op: WeightedOp | AddOp | SubOp | ClampOp) -> None:
    """A file names an activation; the runtime derives the limits. They must be the graph's."""
    y = graph.qparams(op.output)
    derived = activation_limits(op.activation, y.scale, y.zero_point, y.bits)
    if derived != (op.lo, op.hi):
        raise UserError(
            f"operator {op.name!r} clamps its codes to {(op.lo, op.hi)}, but activation {op.activation!r} with {y} "
            f"means {derived}: build the graph with QAT2Int again"
        )


FUNCTIONS: dict[str, Callable[[ActivationOp, QuantParams, QuantParams], None]] = {
    "hardswish": _check_hardswish,
    "sigmoid": _check_gate_alone,
    "silu": _check_silu,
    "hardsigmoid": _check_hardsigmoid,
    "tanh": _check_gate_alone,
}
"""By function; the quantization of input and output is given."""

CHECKS: dict[type, Callable[[IntGraph, Any], None]] = {
    ActivationOp: _check_activation,
    AddOp: _check_sum,
    ClampOp: _check_limits,
    ConvOp: _check_conv,
    ConvTransposeOp: _check_conv,
    LeakyReluOp: _check_leaky_relu,
    MulOp: _check_mul,
    PreluOp: _check_prelu,
    RequantizeOp: _check_requantize,
    SubOp: _check_sum,
}
"""By operator; those that copy, compare or average codes take any numbers."""
