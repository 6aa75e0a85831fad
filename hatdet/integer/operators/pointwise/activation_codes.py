"""Activations that are operators of their own, as tables of 256 codes: hard-swish, sigmoid, tanh, SiLU, hardsigmoid.

Source of the formulas: the reference kernels of TensorFlow Lite (``HARD_SWISH``: 16-bit fixed point; ``LOGISTIC`` and
``TANH``: tables made in float32). SiLU is said in a file as MUL(x, LOGISTIC(x)); its table composes the two. A
hardsigmoid is a depthwise 1x1 convolution with the weight 1/6 and the bias 1/2 whose output saturates at 0 and 255/256.
Real functions: Ramachandran et al., "Searching for Activation Functions" (2017); Howard et al., "Searching for
MobileNetV3" (2019).
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hatdet.integer.arithmetic import (
    INT8_MAX,
    INT8_MIN,
    Multiply,
    conv_multiplier,
    multiply_by_quantized_multiplier,
    quantize_multiplier,
    round_half_away,
    stored_weight_scale,
)
from hatdet.integer.operators.pairs.mul import mul_codes
from hatdet.integer.operators.pointwise.requantize import requantize_table
from hatdet.integer.profile import NoScale
from hatdet.integer.tensors import QuantParams

FUNCTIONS = ("hardswish", "sigmoid", "silu", "hardsigmoid", "tanh")
UNIT_INTERVAL = QuantParams(1.0 / 256.0, -128)
"""The one output quantization that the kernels of sigmoid accept: [0, 255/256]."""
SIGNED_UNIT_INTERVAL = QuantParams(1.0 / 128.0, 0)
"""That of tanh: [-1, 127/128]."""
FIXED_OUTPUTS = {"sigmoid": UNIT_INTERVAL, "hardsigmoid": UNIT_INTERVAL, "tanh": SIGNED_UNIT_INTERVAL}
"""By function: the quantization that its output must have."""
HARDSIGMOID_WEIGHT = 127
HARDSIGMOID_WEIGHT_SCALE = np.float32(1.0 / (6.0 * HARDSIGMOID_WEIGHT))
"""The weight of a hardsigmoid's convolution: 127 steps that are 1/6."""
GATE_INPUT = QuantParams(1.0 / 16.0, 0)
"""What a sigmoid or tanh reads in place of an input that is too coarse for its kernels: [-8, 7.94], beyond which codes
are the least or the largest."""


def activation_table(
    function: str, x: QuantParams, y: QuantParams, multiply: Multiply | None = None
) -> NDArray[np.int8]:
    """Output codes of an activation for the 256 input codes, entry [q + 128]. Shape (256,).

    Raises:
        ValueError: an unknown function, or one whose output is not that of :data:`FIXED_OUTPUTS`.
    """
    if (fixed := FIXED_OUTPUTS.get(function, y)) != y:
        raise ValueError(f"the output of a {function} is quantized with {fixed}, got {y}")
    if function == "hardswish":
        return hardswish_table(x, y)
    if function in ("sigmoid", "tanh"):
        return gate_table(function, x, multiply)
    if function == "hardsigmoid":
        return hardsigmoid_table(x, multiply)
    if function == "silu":
        gate = gate_table("sigmoid", x, multiply).astype(np.int64) - UNIT_INTERVAL.zero_point
        return mul_codes(_centred(x) * gate, (x.scale, UNIT_INTERVAL.scale, y.scale), y.zero_point, multiply)
    raise ValueError(f"unknown activation {function!r}; use one of {', '.join(FUNCTIONS)}")


def gate_input(x: QuantParams, function: str = "sigmoid") -> QuantParams:
    """The quantization of what the kernel of a sigmoid (or ``tanh``) reads: that of ``x``, or where the kernels do not
    compute alike with it :data:`GATE_INPUT`, to which ``x`` is requantized first (a SiLU's product still reads ``x``).

    From a scale of 2 on TFLite Micro may saturate too early (:func:`_saturates_alike`).
    """
    return x if _saturates_alike(_gate(function), x.scale, x.zero_point) else GATE_INPUT


def _gate(function: str) -> str:
    return "tanh" if function == "tanh" else "sigmoid"


@functools.lru_cache(maxsize=1024)
def _saturates_alike(gate: str, scale: float, zero_point: int) -> bool:
    """Whether the inputs that TFLite Micro's LOGISTIC or TANH takes for saturated are so in the table.

    It computes in fixed point with 4 integer bits, and takes every centred code of magnitude floor(15 / 2**e) and more
    for saturated, where 2**e is the power of two above the scale: from 2 on that is 3, from 4 on 1, from 8 on 0, so
    that there an input of 0 gives 0 instead of 1/2.
    """
    exponent = int(np.frexp(np.float64(scale))[1])
    x = QuantParams(scale, zero_point)
    radius = int(15.0 * 2.0**-exponent) if exponent > -24 else 1 << 28
    centred, table = _centred(x), _table_of_gate(gate, x)
    beyond = np.abs(centred) >= radius
    saturated = np.where(centred <= -radius, INT8_MIN, INT8_MAX)
    return bool(np.array_equal(table[beyond], saturated[beyond]))


def _centred(x: QuantParams) -> NDArray[np.int64]:
    return np.arange(INT8_MIN, INT8_MAX + 1, dtype=np.int64) - x.zero_point


def kernels_agree(function: str, x: QuantParams, y: QuantParams) -> bool:
    """Whether LiteRT and TFLite Micro give the same code for all 256 inputs of an activation.

    Sigmoid and tanh: one makes a table, the other computes in fixed point with an error of some 1e-5 codes (measured);
    so no value may come within 2**-14 codes of a rounding tie, and both must saturate at the same codes. Hard-swish:
    the multipliers must not depend on whether scales are divided in float32 or float64. For SiLU see also
    ``operators.pairs.mul.mul_kernels_agree``.
    """
    if function == "hardsigmoid":
        return True  # a convolution
    if function == "hardswish":
        return hardswish_multipliers(x, y) == hardswish_multipliers(x, y, np.float64)
    gate, read = _gate(function), gate_input(x, function)
    numbers = gate, read.scale, read.zero_point
    return _saturates_alike(*numbers) and clear_of_ties(*numbers)


@functools.lru_cache(maxsize=1024)
def clear_of_ties(gate: str, scale: float, zero_point: int) -> bool:
    real = scale * (np.arange(INT8_MIN, INT8_MAX + 1, dtype=np.float64) - zero_point)
    value = real_function(gate, real)[0] / FIXED_OUTPUTS[gate].scale
    return bool(np.all(np.abs(value - np.floor(value) - 0.5) > 2.0**-14))


def agreeing_input_scale(function: str, x: QuantParams, y: QuantParams) -> float:
    """The least scale at or little above that of ``x`` with which the kernels agree (:func:`kernels_agree`).

    Raises:
        NoScale: none up to 0.4 % above does.
    """
    scale = x.scale
    for _ in range(4096):
        if kernels_agree(function, QuantParams(scale, x.zero_point), y):
            return scale
        scale = float(np.float32(scale * (1.0 + 2.0**-20)))
    raise NoScale(f"no input scale near {x.scale} suits the kernels of {function}")


def hardsigmoid_bias(x: QuantParams) -> int:
    """The int32 bias of a hardsigmoid's convolution: round(1/2 / (Sx * Sw))."""
    return int(round_half_away(0.5 / (np.float64(x.scale) * np.float64(HARDSIGMOID_WEIGHT_SCALE))))


def hardsigmoid_table(x: QuantParams, multiply: Multiply | None = None) -> NDArray[np.int8]:
    """clamp(x / 6 + 1/2, 0, 1) by the arithmetic of a convolution: MBQM(127 (q - Zx) + b; Sx * Sw / Sy) - 128."""
    scale = np.array([HARDSIGMOID_WEIGHT_SCALE], dtype=np.float32)
    scale = stored_weight_scale(x.scale, scale, UNIT_INTERVAL.scale)
    multiplier = conv_multiplier(x.scale, scale, UNIT_INTERVAL.scale)
    accumulators = HARDSIGMOID_WEIGHT * _centred(x) + hardsigmoid_bias(x)
    scaled = multiply or multiply_by_quantized_multiplier
    y = scaled(accumulators, *quantize_multiplier(multiplier)) + UNIT_INTERVAL.zero_point
    return np.clip(y, INT8_MIN, INT8_MAX).astype(np.int8)


def gate_table(gate: str, x: QuantParams, multiply: Multiply | None = None) -> NDArray[np.int8]:
    """round(256 / (1 + exp(-Sx (q - Zx)))) - 128 or round(128 tanh(Sx (q - Zx))), in float32, at most 127; of x as
    :func:`gate_input` has it."""
    read = gate_input(x, gate)
    if read == x:
        return _table_of_gate(gate, x)
    codes = requantize_table(x.scale, x.zero_point, read.scale, read.zero_point, multiply)
    return _table_of_gate(gate, read)[codes.astype(np.int64) - INT8_MIN]


def _table_of_gate(gate: str, x: QuantParams) -> NDArray[np.int8]:
    real, y = np.float32(x.scale) * _centred(x).astype(np.float32), FIXED_OUTPUTS[gate]
    if gate == "tanh":
        value = np.tanh(real.astype(np.float64)).astype(np.float32)  # the nearest float32, as tanhf gives
    else:
        with np.errstate(over="ignore"):
            power = np.exp(-real.astype(np.float64)).astype(np.float32)
        value = np.float32(1.0) / (np.float32(1.0) + power)
    codes = round_half_away(value * np.float32(1.0 / y.scale)) + y.zero_point
    return np.clip(codes, INT8_MIN, INT8_MAX).astype(np.int8)


def hardswish_multipliers(
    x: QuantParams, y: QuantParams, precision: type[np.floating[Any]] = np.float32
) -> tuple[int, int, int, int]:
    """(16-bit multiplier, exponent) to the output's scale, and of x / 3 in units of 2**-15.

    The kernels compute with an output exponent in [-15, 0] and an input exponent in [-15, 30]. LiteRT divides the
    scales in float32 (``precision``), TFLite Micro in float64.
    """
    fine = precision(1.0 / 128.0) * precision(x.scale)
    out, out_exponent = quantize_multiplier(np.float64(fine / precision(y.scale)))
    ramp, ramp_exponent = quantize_multiplier(np.float64(fine / precision(3.0 / 32768.0)))
    return _to_int16(int(out)), int(out_exponent), _to_int16(int(ramp)), int(ramp_exponent)


def _to_int16(multiplier: int) -> int:
    return min((multiplier + (1 << 15)) >> 16, 2**15 - 1)


def hardswish_table(x: QuantParams, y: QuantParams) -> NDArray[np.int8]:
    """x * relu6(x + 3) / 6 in the 16-bit arithmetic of the kernels: x in units of Sx / 128, the ramp x / 3 in [-1, 1)
    saturated at 16 bits, shifted to [0, 1), times x on the output's scale (this product truncates)."""
    out, out_exponent, ramp_multiplier, exponent = hardswish_multipliers(x, y)
    fine = _centred(x) * 128
    preshift = _rounding_high_multiply(fine, out)
    ramp = fine
    if exponent > 0:
        ramp = _saturate16(ramp << (exponent - 1))
    ramp = _rounding_high_multiply(ramp, ramp_multiplier)
    if exponent > 0:
        ramp = _saturate16(ramp << 1)
    else:
        ramp = _divide_by_power_of_two(ramp, -exponent)
    gate = (ramp + (1 << 15)) >> 1
    product = gate * preshift
    truncated = np.where(product < 0, -(-product >> 15), product >> 15)
    codes = _divide_by_power_of_two(truncated, -out_exponent) + y.zero_point
    return np.clip(codes, INT8_MIN, INT8_MAX).astype(np.int8)


def _saturate16(x: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.clip(x, -(2**15), 2**15 - 1)


def _rounding_high_multiply(x: NDArray[np.int64], multiplier: int) -> NDArray[np.int64]:
    """x * multiplier / 2**15 to nearest, ties up; both are 16-bit."""
    return _saturate16((x * multiplier + (1 << 14)) >> 15)


def _divide_by_power_of_two(x: NDArray[np.int64], exponent: int) -> NDArray[np.int64]:
    """To nearest, ties away from zero."""
    half = (1 << exponent) >> 1
    return np.where(x < 0, -((-x + half) >> exponent), (x + half) >> exponent)


def real_function(function: str, x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The real activation (or the identity, ``requantize``) and its derivative, float64."""
    if function == "hardswish":
        gate = np.clip(x / 6.0 + 0.5, 0.0, 1.0)
        return x * gate, np.where(np.abs(x) < 3.0, x / 3.0 + 0.5, gate)
    if function == "hardsigmoid":
        return np.clip(x / 6.0 + 0.5, 0.0, 1.0), np.where(np.abs(x) < 3.0, 1.0 / 6.0, 0.0)
    if function == "requantize":
        return x, np.ones_like(x)
    if function == "tanh":
        value = np.tanh(x)
        return value, 1.0 - value * value
    s = 1.0 / (1.0 + np.exp(-np.clip(x, -700.0, 700.0)))
    if function == "sigmoid":
        return s, s * (1.0 - s)
    if function == "silu":
        return x * s, s * (1.0 + x * (1.0 - s))
    raise ValueError(f"unknown activation {function!r}; use one of {', '.join(FUNCTIONS)}")
