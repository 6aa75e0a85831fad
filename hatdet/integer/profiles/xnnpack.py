"""The arithmetic of LiteRT's default kernels: XNNPACK, and TensorFlow Lite's own where it takes none.

The formulas stand in :mod:`hatdet.integer.xnnpack`. x86 and ARM kernels differ in products and hard-swish; scales must
be such that no code does (:meth:`Xnnpack.product_scale`, :meth:`Xnnpack.activation_scale`). What is not here is left to
kernels that are equal to the reference: PRELU, average pools, hard-swish on x86, convolutions to 16 bits.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, ClassVar

import numpy as np
import torch

from hatdet.integer.arithmetic import limits_are_named, limits_of
from hatdet.integer.operators.pointwise import activation_codes as gates
from hatdet.integer.profile import NoScale, Quantization, Requantizer, Table, WeightedSums, next_scale
from hatdet.integer.profiles.checks.xnnpack import CHECKS
from hatdet.integer.profiles.tflite_ref import TfliteRef
from hatdet.integer.single_multiply import FloatRequantization
from hatdet.integer.tensors import QuantParams
from hatdet.integer.xnnpack import (
    Integers,
    activations_agree,
    as_codes,
    centred,
    fixed_point,
    gate_table,
    hardsigmoid_table,
    product_multiplier,
    products_agree,
    ratio,
    scaled,
    squares_agree,
    sum_multiplier,
)

_ACTIVATION_STEPS = [n * 2.0**-20 for n in range(64)] + [2.0**-14 * 1.03**n for n in range(236)]
"""By how much an activation's input is widened, at most a sixteenth: where the scales of a hard-swish are equal, x = -1
is a tie until the input's is larger by a hundredth."""


class Xnnpack(TfliteRef):
    """LiteRT's default kernels, on x86 and ARM alike."""

    name = "xnnpack"
    kernels = "LiteRT's default kernels (XNNPACK)"
    litert = "default"
    bilinear_up = True
    runtimes = ("LiteRT default", "LiteRT default, 4 threads")
    micro = None
    checks: ClassVar[Mapping[type, Callable[[Any, Quantization], None]]] = CHECKS

    def sums(self, of: WeightedSums) -> Requantizer:
        if of.y.bits == 16:
            return super().sums(of)
        return FloatRequantization(sum_multiplier(of.x_scale, of.weight_scale, of.y.scale), of.device)

    def products(
        self, scale1: float, scale2: float, y_scale: float, channels: int, device: torch.device | str = "cpu"
    ) -> Requantizer:
        return FloatRequantization(np.full(channels, product_multiplier(scale1, scale2, y_scale)), device)

    def limits(self, activation: str, y: QuantParams) -> tuple[int, int]:
        if y.bits == 16 or not limits_are_named(activation):
            return super().limits(activation, y)
        with np.errstate(over="ignore"):
            real = np.array(limits_of(activation), np.float32) / np.float32(y.scale)
        shifted = np.clip(real, -(2.0**20), 2.0**20).astype(np.float32) + np.float32(y.zero_point)
        low, high = (int(v) for v in np.rint(shifted))  # the zero point is in it: it decides which way ties go
        return max(y.lowest, low), min(y.highest, high)

    def add(self, q1: QuantParams, q2: QuantParams, y: QuantParams, lo: int, hi: int, sign: int = 1) -> Table:
        """Below a ratio of 2**-10 the kernel is not XNNPACK's."""
        ratios = ratio(q1.scale, y.scale), ratio(q2.scale, y.scale)
        if min(ratios) < 2.0**-10:
            return super().add(q1, q2, y, lo, hi, sign)
        shift = 20 - (int(np.frexp(max(ratios))[1]) - 1)
        first, second = (np.rint(np.ldexp(r, shift)).astype(np.int64) for r in ratios)
        total = (centred(q1) * first)[:, None] + sign * (centred(q2) * second)[None, :]
        return np.clip(((total + (1 << (shift - 1))) >> shift) + y.zero_point, lo, hi).astype(np.int8)

    def multiplied(self, products: Integers, multiplier: np.float32) -> Integers:
        """Products of centred codes as centred output codes."""
        return scaled(products, multiplier)

    def mul(self, q1: QuantParams, q2: QuantParams, y: QuantParams) -> Table:
        products = centred(q1)[:, None] * centred(q2)[None, :]
        return as_codes(self.multiplied(products, product_multiplier(q1.scale, q2.scale, y.scale)), y)

    def requantize(self, x: QuantParams, y: QuantParams) -> Table:
        return as_codes(fixed_point(centred(x), ratio(x.scale, y.scale)), y)

    def activation(self, function: str, x: QuantParams, y: QuantParams) -> Table:
        if function == "silu":
            gate = gate_table("sigmoid", x).astype(np.int64) - gates.UNIT_INTERVAL.zero_point
            multiplier = product_multiplier(x.scale, gates.UNIT_INTERVAL.scale, y.scale)
            return as_codes(self.multiplied(centred(x) * gate, multiplier), y)
        if function in ("sigmoid", "tanh"):
            return gate_table(function, x)
        if function == "hardsigmoid":
            return hardsigmoid_table(x)
        return super().activation(function, x, y)

    def gate_input(self, x: QuantParams, function: str) -> QuantParams:
        return x  # a table has no coarsest scale

    def leaky_relu(self, x: QuantParams, y: QuantParams, slope: float) -> Table:
        same = ratio(x.scale, y.scale)
        values, leak = centred(x), np.float32(same * np.float32(slope))
        return as_codes(np.where(values >= 0, fixed_point(values, same), fixed_point(values, leak)), y)

    def ratios(self, kind: str) -> tuple[float, float]:
        return (2.0**-8, 2.0**7) if kind in ("requantize", "leaky_relu") else super().ratios(kind)

    def product_scale(self, inputs: Collection[tuple[float, float]], y_scale: float) -> float:
        def suits(scale: float) -> bool:
            return all(products_agree(s1, s2, scale) for s1, s2 in inputs)

        return next_scale(y_scale, suits, f"the products of {list(inputs)} on x86 and ARM")

    def square_scale(self, x_scale: float, y_scale: float) -> float:
        purpose = f"the square of a map with the scale {x_scale}"
        return next_scale(y_scale, lambda scale: squares_agree(x_scale, scale), purpose)

    def activation_scale(self, function: str, x: QuantParams, y: QuantParams) -> float:
        for step in _ACTIVATION_STEPS:
            scale = float(np.float32(x.scale * (1.0 + step)))
            if activations_agree(function, QuantParams(scale, x.zero_point), y):
                return scale
        raise NoScale(f"no input scale near {x.scale} suits a {function} on x86 and ARM")

    def leaky_relu_scale(self, x_scale: float, y_scale: float, slope: float, shared: bool) -> float:
        return y_scale  # integers alone: they are the same everywhere

    def check(self, op: Any, qparams: Quantization) -> None:
        if type(op) in self.checks:
            self.checks[type(op)](op, qparams)
        else:
            super().check(op, qparams)
