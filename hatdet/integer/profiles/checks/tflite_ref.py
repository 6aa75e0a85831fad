"""Numbers that the reference kernels do not compute with, or that LiteRT and TFLite Micro compute differently."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from hatdet.integer.arithmetic import Multiply, conv_multiplier, quantize_multiplier, stored_weight_scale
from hatdet.integer.operators.pairs.add import AddOp
from hatdet.integer.operators.pairs.mul import MulOp, mul_kernels_agree, mul_multiplier
from hatdet.integer.operators.pairs.sub import SubOp
from hatdet.integer.operators.pointwise.activation import ActivationOp
from hatdet.integer.operators.pointwise.activation_codes import (
    HARDSIGMOID_WEIGHT,
    HARDSIGMOID_WEIGHT_SCALE,
    UNIT_INTERVAL,
    hardsigmoid_bias,
    hardswish_multipliers,
    kernels_agree,
)
from hatdet.integer.operators.pointwise.leaky_relu import LeakyReluOp
from hatdet.integer.operators.pointwise.leaky_relu import kernels_agree as leaky_kernels_agree
from hatdet.integer.operators.pointwise.prelu import PreluOp
from hatdet.integer.operators.pointwise.requantize import RequantizeOp
from hatdet.integer.operators.windows.conv import ConvOp
from hatdet.integer.operators.windows.conv_transpose import ConvTransposeOp
from hatdet.integer.operators.windows.weighted import WeightedOp
from hatdet.integer.profile import Quantization
from hatdet.integer.tensors import QuantParams
from hatdet.utils.errors import UserError

INT32_MAX = 2**31 - 1
LARGEST_GATE_SCALE = 2.0**19
"""A sigmoid's input is requantized to ``activation_codes.GATE_INPUT``: 2**23 times finer at most, in int32."""


def largest_accumulators(op: WeightedOp, x: QuantParams) -> np.ndarray:
    """Largest magnitudes (O,) that the sums of a convolution reach."""
    span = max(x.zero_point + 128, 127 - x.zero_point)
    bound = np.abs(op.weight.astype(np.int64)).reshape(op.weight.shape[0], -1).sum(1) * span
    return bound + np.abs(op.bias.astype(np.int64))  # type: ignore[no-any-return]


def _check_sums(op: WeightedOp, qparams: Quantization, multiply: Multiply | None = None) -> None:
    x, y = qparams(op.input), qparams(op.output)
    bound = largest_accumulators(op, x)
    multiplier = conv_multiplier(x.scale, op.weight_scale, y.scale)
    if y.bits == 16:
        check_wide(op.name, multiplier, bound)
    else:
        _check_left_shift(op.name, multiplier, bound, multiply)


def check_wide(name: str, multiplier: np.ndarray, bound: np.ndarray) -> None:
    """A convolution to 16 bits accumulates in int64; its result before the clamp must fit int32."""
    if np.any(multiplier >= 2.0**7) or np.any(bound * multiplier > INT32_MAX):
        raise UserError(
            f"convolution {name!r}: its output scale is {float(multiplier.max()):.3g} times smaller than that of its "
            "sums, which 16-bit kernels do not take; is the output constant? calibrate on more images"
        )


def _check_left_shift(
    name: str, multiplier: ArrayLike, bound: np.ndarray | int, multiply: Multiply | None = None
) -> None:
    """The reference kernels shift the accumulator left in int32 where a multiplier exceeds 1. Those that round once
    (CMSIS-NN's) shift from a multiplier of 1/2 on, and by one more: they need a bit for the half."""
    _, e = quantize_multiplier(multiplier)
    left = np.maximum(e, 0) if multiply is None else np.maximum(e + 1, 0)
    shifted = np.asarray(bound, dtype=np.float64) * np.exp2(left.astype(np.float64))
    if np.any(shifted > INT32_MAX):
        raise UserError(
            f"operator {name!r}: an accumulator can reach {int(np.max(shifted))}, beyond int32; its output scale is "
            "too small for its input (calibrate on more images, or widen the output's range)"
        )


def _check_requantize(op: RequantizeOp, qparams: Quantization, multiply: Multiply | None = None) -> None:
    ratio = np.float64(qparams(op.input).scale) / np.float64(qparams(op.output).scale)
    _check_left_shift(op.name, ratio, 255, multiply)


def _check_sum(op: AddOp | SubOp, qparams: Quantization, multiply: Multiply | None = None) -> None:
    s1, s2, sy = (np.float64(qparams(n).scale) for n in (op.input1, op.input2, op.output))
    multiplier = 2.0 * max(s1, s2) / (float(1 << 20) * sy)
    if multiplier >= 1.0:
        raise UserError(
            f"operator {op.name!r} ({op.kind}): the larger input scale {max(s1, s2):g} is more than 2**19 output "
            f"scales ({sy:g}); the kernel's output multiplier must be below 1"
        )


def _check_mul(op: MulOp, qparams: Quantization, multiply: Multiply | None = None) -> None:
    scale1, scale2, output_scale = (qparams(n).scale for n in (op.input1, op.input2, op.output))
    _check_product(op.name, scale1, scale2, output_scale, multiply)


def _check_product(name: str, scale1: float, scale2: float, output_scale: float, multiply: Multiply | None) -> None:
    """Products are told in float32 by one reference runtime and in float64 by the other: both must say the same."""
    _check_left_shift(name, mul_multiplier(scale1, scale2, output_scale), 255 * 255, multiply)
    if not mul_kernels_agree(scale1, scale2, output_scale, multiply):
        raise UserError(
            f"operator {name!r}: with the scales {scale1!r}, {scale2!r} and {output_scale!r} LiteRT and TFLite Micro "
            "round some products differently; take the output scale from pairs.mul.agreeing_output_scale"
        )


def _check_prelu(op: PreluOp, qparams: Quantization, multiply: Multiply | None = None) -> None:
    sx, sy = qparams(op.input).scale, qparams(op.output).scale
    for slope in (1.0, op.alpha_scale):
        _check_product(op.name, sx, slope, sy, multiply)


def _check_leaky_relu(op: LeakyReluOp, qparams: Quantization, multiply: Multiply | None = None) -> None:
    sx, sy = qparams(op.input).scale, qparams(op.output).scale
    _check_left_shift(op.name, np.float64(sx * max(1.0, op.slope) / sy), 255, multiply)
    if not leaky_kernels_agree(sx, sy, op.slope, multiply):
        raise UserError(
            f"operator {op.name!r}: with the scales {sx!r} and {sy!r} LiteRT and TFLite Micro round some values "
            "differently; take the output scale from leaky_relu.agreeing_output_scale"
        )


def _check_activation(op: ActivationOp, qparams: Quantization, multiply: Multiply | None = None) -> None:
    FUNCTIONS[op.function](op, qparams(op.input), qparams(op.output), multiply)


def _check_gate_alone(op: ActivationOp, x: QuantParams, y: QuantParams, multiply: Multiply | None) -> None:
    _check_agreement(op, x, y)
    _check_gate(op, x)


def _check_silu(op: ActivationOp, x: QuantParams, y: QuantParams, multiply: Multiply | None) -> None:
    _check_agreement(op, x, y)
    _check_gate(op, x)
    _check_product(op.name, x.scale, UNIT_INTERVAL.scale, y.scale, multiply)


def _check_hardsigmoid(op: ActivationOp, x: QuantParams, y: QuantParams, multiply: Multiply | None) -> None:
    _check_agreement(op, x, y)
    scale = stored_weight_scale(x.scale, np.array([HARDSIGMOID_WEIGHT_SCALE], dtype=np.float32), y.scale)
    bound = HARDSIGMOID_WEIGHT * 255 + hardsigmoid_bias(x)
    _check_left_shift(op.name, conv_multiplier(x.scale, scale, y.scale), bound, multiply)


def _check_hardswish(op: ActivationOp, x: QuantParams, y: QuantParams, multiply: Multiply | None) -> None:
    _check_agreement(op, x, y)
    check_hardswish_range(op, x, y)


def check_hardswish_range(op: ActivationOp, x: QuantParams, y: QuantParams) -> None:
    """The exponents of the kernel's 16-bit multipliers are bounded."""
    _, out_exponent, _, exponent = hardswish_multipliers(x, y)
    if not (-15 <= out_exponent <= 0 and -15 <= exponent <= 30):
        raise UserError(
            f"hard-swish {op.name!r}: the kernel's 16-bit arithmetic does not hold the input scale {x.scale:g} "
            f"with the output scale {y.scale:g}; the input scale must be below 128 output scales"
        )


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


FUNCTIONS: dict[str, Callable[[ActivationOp, QuantParams, QuantParams, Multiply | None], None]] = {
    "hardswish": _check_hardswish,
    "sigmoid": _check_gate_alone,
    "silu": _check_silu,
    "hardsigmoid": _check_hardsigmoid,
    "tanh": _check_gate_alone,
}
"""By function; the quantization of input and output is given."""

CHECKS: dict[type, Callable[..., None]] = {
    ActivationOp: _check_activation,
    AddOp: _check_sum,
    ConvOp: _check_sums,
    ConvTransposeOp: _check_sums,
    LeakyReluOp: _check_leaky_relu,
    MulOp: _check_mul,
    PreluOp: _check_prelu,
    RequantizeOp: _check_requantize,
    SubOp: _check_sum,
}
"""By operator: of it, the quantization of its tensors, and ``TfliteRef.multiply``. Those that copy, compare or average
codes take any numbers."""
