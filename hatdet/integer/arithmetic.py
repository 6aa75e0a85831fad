"""Fixed-point arithmetic of the profile ``tflite_ref``: multipliers, shifts and rounding, exactly.

Source of the formulas: the reference kernels of TensorFlow Lite (``QuantizeMultiplier``,
``MultiplyByQuantizedMultiplier`` with double rounding) and Jacob et al., "Quantization and Training of Neural
Networks for Efficient Integer-Arithmetic-Only Inference" (CVPR 2018), section 2.2.

Scales are float32 values, exactly as a file stores them; every product of scales starts from these.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

PROFILE = "tflite_ref"
Multiply = Callable[[ArrayLike, ArrayLike, ArrayLike], NDArray[np.int64]]
"""Integers times a multiplier ``m * 2**(e - 31)``, rounded: :func:`multiply_by_quantized_multiplier`, or
:func:`multiply_rounding_once`."""
INT8_MIN, INT8_MAX = -128, 127
EXACT_FLOAT32 = 2**24
"""Every integer of smaller magnitude is a float32; a convolution whose partial sums stay below is exact."""
MULTIPLIER_LIMIT = 256.0
"""Multipliers of convolutions, products and additions stay below: with larger ones LiteRT's default kernels (XNNPACK)
do not load a convolution's file, and compute sums and products that are far off."""
LARGEST_MULTIPLIER = MULTIPLIER_LIMIT * (1.0 - 2.0**-16)
"""So far below the limit that rounding scales to float32 does not reach it."""

_EXACT_ACCUMULATOR = 2**22


def round_half_away(x: ArrayLike) -> NDArray[np.float64]:
    """Round to the nearest integer, ties away from zero (C's ``round``), in float64."""
    x = np.asarray(x, dtype=np.float64)
    whole = np.trunc(x)
    return whole + np.where(np.abs(x - whole) >= 0.5, np.copysign(1.0, x), 0.0)


def quantize_multiplier(multiplier: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split real multipliers M > 0 (float64) into ``m * 2**(e - 31)`` with m a 31-bit integer.

    M = q * 2**e with q in [0.5, 1); m = round_half_away(q * 2**31); m = 2**31 is halved; e < -31 gives (0, 0).

    Returns:
        ``(m, e)``, int64 arrays of the input's shape.
    """
    values = np.asarray(multiplier, dtype=np.float64)
    if np.any(values < 0) or not np.all(np.isfinite(values)):
        raise ValueError(f"a requantization multiplier must be finite and not negative, got {values.min()}")
    q, e = np.frexp(values)
    m = round_half_away(q * 2.0**31).astype(np.int64)
    e = e.astype(np.int64)
    carry = m == 2**31
    m = np.where(carry, m // 2, m)
    e = np.where(carry, e + 1, e)
    tiny = e < -31
    return np.where(tiny, 0, m), np.where(tiny, 0, e)


def multiply_by_quantized_multiplier(x: ArrayLike, m: ArrayLike, e: ArrayLike) -> NDArray[np.int64]:
    """MBQM of the reference kernels (double rounding), literally, in int64.

    y1 = floor(x * 2**max(e, 0) * m / 2**31 + 1/2); y = y1 / 2**max(-e, 0) to nearest, ties away from zero.
    """
    x, m, e = (np.asarray(v, dtype=np.int64) for v in (x, m, e))
    y1 = ((x << np.maximum(e, 0)) * m + (1 << 30)) >> 31
    k = np.maximum(-e, 0)
    mask = (np.int64(1) << k) - 1
    threshold = (mask >> 1) + (y1 < 0)
    return (y1 >> k) + ((y1 & mask) > threshold)


def multiply_rounding_once(x: ArrayLike, m: ArrayLike, e: ArrayLike) -> NDArray[np.int64]:
    """MBQM where TensorFlow Lite is built with ``TFLITE_SINGLE_ROUNDING``, literally, in int64.

    y = floor(x * m / 2**(31 - e) + 1/2): ties up. With e >= 0 the double rounding is the same.
    """
    x, m, e = (np.asarray(v, dtype=np.int64) for v in (x, m, e))
    shift = 31 - e
    return np.asarray((x * m + (np.int64(1) << (shift - 1))) >> shift, dtype=np.int64)


def conv_multiplier(input_scale: float, weight_scale: NDArray[np.float32], output_scale: float) -> NDArray[np.float64]:
    """M_c = Sx * Sw_c / Sy of a convolution, in float64 from the float32 scales. Shape (C,)."""
    sx, sy = np.float64(np.float32(input_scale)), np.float64(np.float32(output_scale))
    return sx * weight_scale.astype(np.float32).astype(np.float64) / sy


def stored_weight_scale(
    input_scale: float, weight_scale: NDArray[np.float32], output_scale: float
) -> NDArray[np.float32]:
    """Weight scales (C,) of a convolution to 8 bits as a file has them: so small that no multiplier reaches
    ``MULTIPLIER_LIMIT``.

    No code depends on it: with a multiplier of 255.5 and more every accumulator other than 0 is beyond the clamp.
    """
    most = LARGEST_MULTIPLIER * np.float64(np.float32(output_scale)) / np.float64(np.float32(input_scale))
    return np.minimum(weight_scale.astype(np.float32), np.float32(min(most, 3e38)))


@dataclass(frozen=True)
class Requantization:
    """A requantization prepared for float64: ``y = floor(acc * a + 1/2 + delta * sign(acc * a))``.

    ``a = m * 2**(e - 31)`` and ``delta = 2**(e - 1)`` for e < 0 (the first rounding of the double rounding moves
    the second one's threshold by half a unit of the first), 0 for e >= 0.

    Proof that this is MBQM: ``acc * a`` is exact in float64 for abs(acc) <= 2**22 (22 + 31 bits), the sum is exact for
    e >= -22, and floor(floor(p + 1/2) / 2**k + 1/2) = floor(p / 2**k + 1/2 + 2**(-k - 1)) for integer k >= 1
    (negative values: mirrored, the tie of the first rounding goes up). A larger accumulator gives a value beyond
    the clamp whenever ``a * 2**22 > 257``, and rounding is monotone. And where no accumulator reaches a quarter of an
    output code both are 0, whatever the exponent. ``exact`` says, for each channel, that one of these holds; the others
    take the literal int64 path. ``shiftable``: the sum stays exact, or its rounding without effect, where a zero
    point of up to 255 is added before the floor.

    ``multiply`` is what the form says, word for word. With :func:`multiply_rounding_once` every delta is 0.
    """

    m: NDArray[np.int64]
    e: NDArray[np.int64]
    a: NDArray[np.float64]
    delta: NDArray[np.float64]
    exact: NDArray[np.bool_]
    shiftable: NDArray[np.bool_]
    multiply: Multiply = multiply_by_quantized_multiplier


def prepare_requantization(multiplier: NDArray[np.float64], bound: NDArray[np.float64]) -> Requantization:
    """Prepare the requantization of accumulators with magnitudes up to ``bound``; both of shape (C,).

    A multiplier above ``LARGEST_MULTIPLIER`` is replaced by that, with the same codes (:func:`stored_weight_scale`).
    """
    m, e = quantize_multiplier(np.minimum(multiplier, LARGEST_MULTIPLIER))
    a = m.astype(np.float64) * np.exp2((e - 31).astype(np.float64))
    delta = np.where(e < 0, np.exp2((e - 1).astype(np.float64)), 0.0)
    beyond = a * _EXACT_ACCUMULATOR > 257.5
    small = (bound <= _EXACT_ACCUMULATOR) & (e >= -21)
    nothing = a * bound < 0.25
    exact = (beyond & (e >= -14) & (e <= 8)) | (small & (e <= 0)) | nothing
    return Requantization(m, e, a, delta, exact, exact & ((e >= -14) | nothing))


def prepare_single_rounding(multiplier: NDArray[np.float64], bound: NDArray[np.float64]) -> Requantization:
    """As :func:`prepare_requantization`, rounding once: ``y = floor(acc * a + 1/2)``.

    The sum has fewer bits than that with a delta: it is exact wherever that is.
    """
    double = prepare_requantization(multiplier, bound)
    return replace(double, delta=np.zeros_like(double.delta), multiply=multiply_rounding_once)


def reduce_multiplier(m: ArrayLike, e: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The 16-bit form of a multiplier ``m * 2**(e - 31)``, for 64-bit accumulators: ``r * 2**(e - 15)``.

    r = (m + 2**15) >> 16, or 2**15 - 1 where that would be 2**15.

    Returns:
        ``(r, shift)`` with shift = 15 - e.
    """
    m, e = (np.asarray(v, dtype=np.int64) for v in (m, e))
    return np.where(m < 0x7FFF0000, (m + (1 << 15)) >> 16, 0x7FFF), 15 - e


def multiply_by_reduced_multiplier(x: ArrayLike, r: ArrayLike, shift: ArrayLike) -> NDArray[np.int64]:
    """(x * r + 2**(shift - 1)) >> shift, in int64: rounds once, ties up."""
    x, r, shift = (np.asarray(v, dtype=np.int64) for v in (x, r, shift))
    return (x * r + (np.int64(1) << (shift - 1))) >> shift


def prepare_requantization16(multiplier: NDArray[np.float64], bound: NDArray[np.float64]) -> Requantization:
    """As :func:`prepare_requantization`, for outputs of 16 bits: ``y = floor(acc * a + 1/2)`` with a = r / 2**shift.

    Always exact: accumulators below 2**37 times 15 bits, and the sum with 1/2, fit the 53 bits of a float64.

    Raises:
        ValueError: larger accumulators, or multipliers of 2**8 and up, which the kernels do not take either.
    """
    m, e = quantize_multiplier(multiplier)
    if np.any(bound >= 2.0**37) or np.any(e > 7):
        raise ValueError(
            f"a convolution to 16 bits takes accumulators below 2**37 and multipliers below 2**7, got "
            f"{float(np.max(bound)):g} and {float(np.max(multiplier)):g}"
        )
    r, shift = reduce_multiplier(m, e)
    a = r.astype(np.float64) * np.exp2(-shift.astype(np.float64))
    yes = np.ones(a.shape, dtype=np.bool_)
    return Requantization(m, e, a, np.zeros_like(a), yes, ~yes)  # 16-bit codes are never shifted into bytes


_NAMED_LIMITS = {
    "none": (-math.inf, math.inf), "relu": (0.0, math.inf), "relu6": (0.0, 6.0), "relu_n1_to_1": (-1.0, 1.0),
}  # fmt: skip
"""Activations that the kernels have fused in others."""


def limits_name(low: float, high: float) -> str:
    """The activation that limits values to [low, high]: a name, where kernels have it, else ``clamp(low,high)``."""
    names = {limits: name for name, limits in _NAMED_LIMITS.items()}
    return names.get((low, high), f"clamp({float(low)!r},{float(high)!r})")


def limits_are_named(activation: str) -> bool:
    """Whether kernels have the activation fused in others, and derive its codes themselves."""
    return activation in _NAMED_LIMITS


def limits_of(activation: str) -> tuple[float, float]:
    """The real limits of an activation as :func:`limits_name` says it; 0 lies between them.

    Raises:
        ValueError: it is none.
    """
    if activation in _NAMED_LIMITS:
        return _NAMED_LIMITS[activation]
    parts = activation.removeprefix("clamp(").removesuffix(")").split(",")
    try:
        low, high = (float(part) for part in parts)
    except ValueError:
        low, high = 0.0, 0.0
    if not (low <= 0.0 <= high and low < high) or limits_name(low, high) != activation:
        allowed = f"{', '.join(map(repr, _NAMED_LIMITS))} or 'clamp(low,high)' with 0 between the limits"
        raise ValueError(f"unknown fused activation {activation!r}; use {allowed}")
    return low, high


def activation_limits(activation: str, scale: float, zero_point: int, bits: int = 8) -> tuple[int, int]:
    """Limits of the codes that a fused activation leaves (:func:`limits_of`).

    lo = Z + round(low / S), hi = Z + round(high / S), float32 division, ties away from zero, where kernels have the
    activation. ``clamp(low,high)`` is ours alone; what is a tie up to a thousandth goes away from zero there: an output
    whose range is [-high, high] then ends where its codes do, and nothing has to clamp them.
    """
    lowest, highest = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    with np.errstate(over="ignore"):
        real = np.clip(np.array(limits_of(activation), np.float32) / np.float32(scale), -(2.0**20), 2.0**20)
    if activation not in _NAMED_LIMITS:
        real = real + np.array([-1e-3, 1e-3])
    low, high = (int(limit) + zero_point for limit in round_half_away(real))
    return max(lowest, low), min(highest, high)
