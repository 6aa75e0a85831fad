"""The arithmetic of TensorFlow Lite's reference kernels built with one rounding instead of two.

Firmware of TensorFlow Lite Micro built with ``TFLITE_SINGLE_ROUNDING=1``, and of CMSIS-NN with
``CMSIS_NN_USE_SINGLE_ROUNDING`` (each wants the other), multiplies with ``y = floor(x * m / 2**(31 - e) + 1/2)``
(int64, ties up), where the default build rounds twice. Multipliers, exponents and all else are the reference's. What
changes:

- sums of convolutions and of their kin, ADD, SUB, MUL, QUANTIZE, LEAKY_RELU, PRELU, wherever the multiplier is below
  1/2 (with an exponent of 0 and more the two are the same);
- RESIZE_BILINEAR, whose ties go up too, instead of away from zero.

What does not: HARD_SWISH (16-bit fixed point of its own), AVERAGE_POOL (it divides), LOGISTIC and TANH (their input is
rescaled to 27 fractional bits, and scales keep values clear of ties), convolutions to 16 bits (one rounding in both
builds), copies and comparisons.

TensorFlow Lite's kernel takes exponents from -31 to 30 and results that fit int32. CMSIS-NN's keep the half in int32,
or on Helium shift the sum left by e + 1 before they multiply: sums times 2**(e + 1) must fit int32 where e >= 0
(``checks``). Within these limits all give the same.
"""

from __future__ import annotations

import numpy as np
import torch

from hatdet.integer.arithmetic import Multiply, multiply_rounding_once, prepare_single_rounding
from hatdet.integer.kernels import TensorRequantization
from hatdet.integer.operators.pairs.mul import mul_multiplier
from hatdet.integer.profile import Requantizer, WeightedSums
from hatdet.integer.profiles.tflite_ref import TfliteRef


class TfliteSingle(TfliteRef):
    """TensorFlow Lite Micro and CMSIS-NN built with single rounding; no package has these kernels."""

    name = "tflite_single"
    kernels = "TFLite Micro or CMSIS-NN built with single rounding"
    litert = None
    bilinear_up = True
    runtimes = ()
    proof = "run the self-test of a bundle on the device (--bundle)"
    micro = ("TFLITE_SINGLE_ROUNDING=1", "CMSIS_NN_USE_SINGLE_ROUNDING")

    @property
    def multiply(self) -> Multiply:
        return multiply_rounding_once

    def sums(self, of: WeightedSums) -> Requantizer:
        if of.y.bits == 16:
            return super().sums(of)
        return TensorRequantization(prepare_single_rounding(of.multiplier, of.bound), of.device)

    def products(
        self, scale1: float, scale2: float, y_scale: float, channels: int, device: torch.device | str = "cpu"
    ) -> Requantizer:
        multiplier = np.full(channels, mul_multiplier(scale1, scale2, y_scale))
        return TensorRequantization(prepare_single_rounding(multiplier, np.full(channels, 255.0 * 255.0)), device)
