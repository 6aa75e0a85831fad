"""Products."""

from __future__ import annotations

import functools
from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from hatdet.integer.arithmetic import (
    INT8_MAX,
    INT8_MIN,
    Multiply,
    multiply_by_quantized_multiplier,
    quantize_multiplier,
)
from hatdet.integer.operators.base import RealFunction, Settings
from hatdet.integer.operators.pairs.pair import TableOp
from hatdet.integer.profile import Profile, next_scale
from hatdet.integer.tensors import QuantParams


@dataclass(frozen=True)
class MulOp(TableOp):
    """Elementwise product; the result of each pair of codes is ``Profile.mul``: :func:`mul_table`."""

    kind: ClassVar[str] = "mul"
    verb: ClassVar[str] = "multiply"

    @classmethod
    def real(cls, settings: Settings) -> RealFunction:
        return lambda x, w, b: x[0] * x[1]

    def table(self, profile: Profile, q1: QuantParams, q2: QuantParams, y: QuantParams) -> NDArray[np.int8]:
        return profile.mul(q1, q2, y)


def mul_multiplier(scale1: float, scale2: float, output_scale: float) -> np.float64:
    """M = S1 * S2 / Sy of a product. Unlike a convolution's LiteRT computes it in float32."""
    return np.float64(np.float32(scale1) * np.float32(scale2) / np.float32(output_scale))


def mul_table(
    scales: tuple[float, float, float], zero_points: tuple[int, int, int], multiply: Multiply | None = None
) -> NDArray[np.int8]:
    """All results of the int8 MUL: entry [q1 + 128, q2 + 128] is the output code. Shape (256, 256).

    y = MBQM((q1 - Z1) * (q2 - Z2); M) + Zy with M of :func:`mul_multiplier`, clamped to [-128, 127]. MBQM here and in
    every such table is ``multiply``; None: the reference's, of double rounding.
    """
    codes = np.arange(INT8_MIN, INT8_MAX + 1, dtype=np.int64)
    products = (codes - zero_points[0])[:, None] * (codes - zero_points[1])[None, :]
    return mul_codes(products, scales, zero_points[2], multiply)


def mul_codes(
    products: NDArray[np.int64], scales: tuple[float, float, float], zero_point: int, multiply: Multiply | None = None
) -> NDArray[np.int8]:
    """Output codes of the int8 MUL for products of centred codes; any shape."""
    m, e = quantize_multiplier(mul_multiplier(*scales))
    y = (multiply or multiply_by_quantized_multiplier)(products, m, e) + zero_point
    return np.clip(y, INT8_MIN, INT8_MAX).astype(np.int8)


@functools.lru_cache(maxsize=1024)
def mul_kernels_agree(scale1: float, scale2: float, output_scale: float, multiply: Multiply | None = None) -> bool:
    """Whether a product is the same in float32 (LiteRT) and in float64 (TFLite Micro) arithmetic of the multiplier.

    Both are monotone in the product of centred codes, so equality at the integers around every rounding threshold of
    the output proves it for all (False may rest on an integer that is no product of two codes).
    """
    single = mul_multiplier(scale1, scale2, output_scale)
    s1, s2, sy = (np.float64(np.float32(s)) for s in (scale1, scale2, output_scale))
    pair = [quantize_multiplier(m) for m in (single, s1 * s2 / sy)]
    if pair[0] == pair[1]:
        return True
    near = np.floor((np.arange(-256, 256) + 0.5) / single)
    products = (near[np.abs(near) <= 255.0 * 255.0 + 1][:, None] + np.arange(-1, 3)).astype(np.int64)
    first, second = ((multiply or multiply_by_quantized_multiplier)(products, m, e) for m, e in pair)
    return bool(np.array_equal(first, second))


def agreeing_output_scale(
    inputs: Collection[tuple[float, float]], output_scale: float, multiply: Multiply | None = None
) -> float:
    """The next float32 at or above ``output_scale`` with which all products of these input scales agree in every
    kernel (:func:`mul_kernels_agree`).

    Raises:
        NoScale: none of the next 4096 values does.
    """

    def suits(scale: float) -> bool:
        return all(mul_kernels_agree(s1, s2, scale, multiply) for s1, s2 in inputs)

    return next_scale(output_scale, suits, f"the products of {list(inputs)}")
