"""XNNPACK's int8 formulas as numbers and tables: what the profile ``xnnpack`` is made of.

f32(.) rounds to float32, rne to the nearest integer, both half to even; a product or quotient of scales is one float32
operation. Source: the published conventions of XNNPACK's int8 operators, measured on LiteRT 2.3 (x86 and ARM).
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from hatdet.integer.arithmetic import INT8_MAX, INT8_MIN, stored_weight_scale
from hatdet.integer.operators.pointwise import activation_codes as gates
from hatdet.integer.tensors import QuantParams

Integers = NDArray[np.int64]


def sum_multiplier(x_scale: float, weight_scale: NDArray[np.float32], y_scale: float) -> NDArray[np.float32]:
    """f32(f32(Sx * Sw_c) / Sy) of a convolution's channels (C,), with the weight scales that the file stores."""
    stored = stored_weight_scale(x_scale, weight_scale, y_scale)
    return np.float32(x_scale) * stored / np.float32(y_scale)  # type: ignore[no-any-return]


def product_multiplier(scale1: float, scale2: float, y_scale: float) -> np.float32:
    """f32(f32(S1 * S2) / Sy)."""
    return np.float32(np.float32(scale1) * np.float32(scale2)) / np.float32(y_scale)


def ratio(x_scale: float, y_scale: float) -> np.float32:
    """f32(Sx / Sy)."""
    return np.float32(x_scale) / np.float32(y_scale)


def centred(x: QuantParams) -> Integers:
    """The 256 centred codes."""
    return np.arange(INT8_MIN, INT8_MAX + 1, dtype=np.int64) - x.zero_point


def as_codes(values: Integers, y: QuantParams) -> NDArray[np.int8]:
    """Centred output values as codes."""
    return np.clip(values + y.zero_point, INT8_MIN, INT8_MAX).astype(np.int8)


def scaled(values: Integers, multiplier: np.float32) -> Integers:
    """rne(f32(f32(v) * s)): sums and, on x86, products."""
    return np.rint(values.astype(np.float32) * np.float32(multiplier)).astype(np.int64)


def scaled_on_arm(values: Integers, multiplier: np.float32) -> Integers:
    """floor(v * s + 1/2) of products on ARM: the exact product, ties up.

    The kernel has s as m / 2**(31 + n), m of 31 bits: ((v << (k - n)) * m >> 31) + 2**(k - 1) >> k, k = max(n, 1).
    """
    bits = int(np.float32(multiplier).view(np.uint32))
    m, n = ((bits & 0x7FFFFF) | 0x800000) << 7, 126 - (bits >> 23)
    k = max(n, 1)
    high = ((values << (k - n)) * m) >> 31
    return (high + (1 << (k - 1))) >> k


def fixed_point(values: Integers, factor: np.float32) -> Integers:
    """(v * rne(256 r) + 128) >> 8."""
    return (values * int(np.rint(np.float32(256.0) * factor)) + 128) >> 8


@functools.lru_cache(maxsize=1024)
def products_agree(scale1: float, scale2: float, y_scale: float) -> bool:
    """Whether x86 and ARM round every product of these scales alike.

    Both are monotone in the product of centred codes: equality at the integers around every threshold is enough.
    """
    multiplier = product_multiplier(scale1, scale2, y_scale)
    near = np.floor((np.arange(-256, 256) + 0.5) / np.float64(multiplier))
    products = (near[np.abs(near) <= 255.0 * 255.0 + 2][:, None] + np.arange(-1, 3)).astype(np.int64)
    return bool(np.array_equal(scaled(products, multiplier), scaled_on_arm(products, multiplier)))


def square_table(x: QuantParams, y: QuantParams) -> NDArray[np.int8]:
    """rne(f32(f32(v * v * f32(1 / Sy)) + Zy)) with v = f32(Sx (q - Zx)): XNNPACK makes a square of a product of a map
    with itself, a table. Shape (256,)."""
    real = np.float32(x.scale) * centred(x).astype(np.float32)
    shifted = real * real * (np.float32(1.0) / np.float32(y.scale)) + np.float32(y.zero_point)
    return np.clip(np.rint(shifted), INT8_MIN, INT8_MAX).astype(np.int8)


@functools.lru_cache(maxsize=1024)
def squares_agree(x_scale: float, y_scale: float) -> bool:
    """Whether a square is the same as a product of a map with itself, whatever the zero points: none is near a tie.

    Before it is rounded either is less than t * 2**-21 + 2**-16 from the real t: up to five roundings of 2**-24, and
    that of a sum with the zero point.
    """
    real = np.arange(256.0) ** 2 * (np.float64(np.float32(x_scale)) ** 2 / np.float64(np.float32(y_scale)))
    near = real[real < 257.0]  # what is larger is cut off
    return bool(np.all(np.abs(near - np.floor(near) - 0.5) > near * 2.0**-21 + 2.0**-16))


def gate_table(gate: str, x: QuantParams) -> NDArray[np.int8]:
    """rne(f32(f(Sx (q - Zx)) * f32(1 / Sy)) + Zy) for ``sigmoid`` or ``tanh``. Shape (256,)."""
    real = np.float32(x.scale) * centred(x).astype(np.float32)
    value = gates.real_function(gate, real.astype(np.float64))[0].astype(np.float32)
    y = gates.FIXED_OUTPUTS[gate]
    shifted = value * (np.float32(1.0) / np.float32(y.scale)) + np.float32(y.zero_point)
    return np.clip(np.rint(shifted), INT8_MIN, INT8_MAX).astype(np.int8)


def hardsigmoid_table(x: QuantParams) -> NDArray[np.int8]:
    """The convolution that a hardsigmoid is in a file, for the 256 input codes."""
    y, weight = gates.UNIT_INTERVAL, np.array([gates.HARDSIGMOID_WEIGHT_SCALE], dtype=np.float32)
    sums = gates.HARDSIGMOID_WEIGHT * centred(x) + gates.hardsigmoid_bias(x)
    return as_codes(scaled(sums, sum_multiplier(x.scale, weight, y.scale)[0]), y)


def activations_agree(function: str, x: QuantParams, y: QuantParams) -> bool:
    """Whether every implementation gives the same code for all 256 inputs.

    Hard-swish: x86 and ARM. Sigmoid and tanh (and that of a SiLU): whatever precision the table is made in.
    """
    if function == "hardswish":
        return bool(np.array_equal(gates.hardswish_table(x, y), hardswish_on_arm(x, y)))
    gate = {"silu": "sigmoid"}.get(function, function)
    return gate == "hardsigmoid" or gates.clear_of_ties(gate, x.scale, x.zero_point)


def hardswish_on_arm(x: QuantParams, y: QuantParams) -> NDArray[np.int8]:
    """As ``activation_codes.hardswish_table``, with what ARM's vector code does otherwise: both final shifts round half
    up, and the last product is truncated downwards."""
    out, out_exponent, ramp_multiplier, exponent = gates.hardswish_multipliers(x, y)
    fine = centred(x) * 128
    ramp = fine
    if exponent > 0:
        ramp = _saturated(ramp << (exponent - 1))
    ramp = _high_product(ramp, ramp_multiplier)
    ramp = _saturated(ramp << 1) if exponent > 0 else _halved_up(ramp, -exponent)
    product = (((ramp + (1 << 15)) >> 1) * _high_product(fine, out)) >> 15
    return as_codes(_halved_up(product, -out_exponent), y)


def _saturated(x: Integers) -> Integers:
    return np.clip(x, -(2**15), 2**15 - 1)


def _high_product(x: Integers, multiplier: int) -> Integers:
    return _saturated((x * multiplier + (1 << 14)) >> 15)


def _halved_up(x: Integers, exponent: int) -> Integers:
    """x / 2**exponent to nearest, ties up."""
    return (x + ((1 << exponent) >> 1)) >> exponent
