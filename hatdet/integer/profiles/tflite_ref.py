"""The arithmetic of TensorFlow Lite's reference kernels; its formulas stand beside the operators."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hatdet.integer.arithmetic import (
    PROFILE,
    Multiply,
    activation_limits,
    prepare_requantization,
    prepare_requantization16,
)
from hatdet.integer.kernels import TensorRequantization
from hatdet.integer.operators.layout.resize_bilinear import resize_bilinear
from hatdet.integer.operators.pairs import mul as products
from hatdet.integer.operators.pairs.add import add_table
from hatdet.integer.operators.pointwise import activation_codes, leaky_relu, prelu
from hatdet.integer.operators.pointwise.requantize import requantize_table
from hatdet.integer.profile import Profile, Quantization, Requantizer, Table, WeightedSums
from hatdet.integer.profiles.checks.tflite_ref import CHECKS
from hatdet.integer.tensors import QuantParams


class TfliteRef(Profile):
    """LiteRT's reference kernels (``BUILTIN_REF``), TFLite Micro, and the NPUs that are tested against these."""

    name = PROFILE
    kernels = "LiteRT's reference kernels and TFLite Micro"
    litert: ClassVar[str | None] = "reference"
    bilinear_up = False
    runtimes: ClassVar[tuple[str, ...]] = ("LiteRT reference", "TFLite Micro")
    micro: ClassVar[tuple[str, ...] | None] = ()

    @property
    def multiply(self) -> Multiply | None:
        """How all tables multiply integers with a multiplier; None: with the reference's double rounding."""
        return None

    def sums(self, of: WeightedSums) -> Requantizer:
        prepare = prepare_requantization16 if of.y.bits == 16 else prepare_requantization
        return TensorRequantization(prepare(of.multiplier, of.bound), of.device)

    def products(
        self, scale1: float, scale2: float, y_scale: float, channels: int, device: torch.device | str = "cpu"
    ) -> Requantizer:
        multiplier = products.mul_multiplier(scale1, scale2, y_scale)
        prepared = prepare_requantization(np.full(channels, multiplier), np.full(channels, 255.0 * 255.0))
        return TensorRequantization(prepared, device)

    def limits(self, activation: str, y: QuantParams) -> tuple[int, int]:
        return activation_limits(activation, y.scale, y.zero_point, y.bits)

    def add(self, q1: QuantParams, q2: QuantParams, y: QuantParams, lo: int, hi: int, sign: int = 1) -> Table:
        zero_points = q1.zero_point, q2.zero_point, y.zero_point
        return add_table((q1.scale, q2.scale, y.scale), zero_points, lo, hi, sign, self.multiply)

    def mul(self, q1: QuantParams, q2: QuantParams, y: QuantParams) -> Table:
        zero_points = q1.zero_point, q2.zero_point, y.zero_point
        return products.mul_table((q1.scale, q2.scale, y.scale), zero_points, self.multiply)

    def requantize(self, x: QuantParams, y: QuantParams) -> Table:
        return requantize_table(x.scale, x.zero_point, y.scale, y.zero_point, self.multiply)

    def activation(self, function: str, x: QuantParams, y: QuantParams) -> Table:
        return activation_codes.activation_table(function, x, y, self.multiply)

    def gate_input(self, x: QuantParams, function: str) -> QuantParams:
        return activation_codes.gate_input(x, function)

    def leaky_relu(self, x: QuantParams, y: QuantParams, slope: float) -> Table:
        return leaky_relu.leaky_relu_table(x, y, slope, multiply=self.multiply)

    def prelu(self, x: QuantParams, y: QuantParams, alpha: NDArray[Any], alpha_scale: float) -> Table:
        return prelu.prelu_table(x, y, alpha, alpha_scale, multiply=self.multiply)

    def bilinear(self, x: Tensor, factor: int, zero: int) -> Tensor:
        return resize_bilinear(x, factor, zero, self.bilinear_up)

    def ratios(self, kind: str) -> tuple[float, float]:
        return 0.0, 2.0**20  # 255 times that fits int32

    def product_scale(self, inputs: Collection[tuple[float, float]], y_scale: float) -> float:
        return products.agreeing_output_scale(inputs, y_scale, self.multiply)

    def activation_scale(self, function: str, x: QuantParams, y: QuantParams) -> float:
        return activation_codes.agreeing_input_scale(function, x, y)

    def leaky_relu_scale(self, x_scale: float, y_scale: float, slope: float, shared: bool) -> float:
        return leaky_relu.agreeing_output_scale(x_scale, y_scale, slope, shared, self.multiply)

    def prelu_scale(self, x_scale: float, alpha_scale: float, y_scale: float, shared: bool) -> float:
        return prelu.agreeing_output_scale(x_scale, alpha_scale, y_scale, shared, self.multiply)

    def check(self, op: Any, qparams: Quantization) -> None:
        if type(op) in CHECKS:
            CHECKS[type(op)](op, qparams, self.multiply)
