"""Leaky ReLU: Maas et al., "Rectifier Nonlinearities Improve Neural Network Acoustic Models" (2013)."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray

from hatdet.integer.arithmetic import (
    INT8_MAX,
    INT8_MIN,
    Multiply,
    multiply_by_quantized_multiplier,
    quantize_multiplier,
)
from hatdet.integer.operators.base import Kernel, Machine, OneInput, RealFunction, Settings
from hatdet.integer.operators.lookups import table_kernel
from hatdet.integer.profile import next_scale
from hatdet.integer.tensors import QuantParams


@dataclass(frozen=True)
class LeakyReluOp(OneInput):
    """x where x >= 0, else slope * x: y = clamp(MBQM(x - Zx; M) + Zy), with M = Sx / Sy or (Sx * slope) / Sy.

    Source: the reference kernels of TensorFlow Lite (``LEAKY_RELU``). LiteRT computes M in float32, TFLite Micro in
    float64: scales must be such that no code depends on it (:func:`kernels_agree`). ``slope`` is a float32 value > 0.
    """

    kind: ClassVar[str] = "leaky_relu"
    channelwise: ClassVar[bool] = True
    setting_names: ClassVar[tuple[str, ...]] = ("slope",)
    slope: float

    @classmethod
    def real(cls, settings: Settings) -> RealFunction:
        slope = settings["slope"]
        return lambda x, w, b: F.leaky_relu(x[0], slope)

    def make_kernel(self, machine: Machine) -> Kernel:
        py, offset = machine.qparams(self.output), machine.offset(self.input)
        codes = machine.profile.leaky_relu(machine.qparams(self.input), py, self.slope)
        table = machine.table(codes, py.zero_point)
        return table_kernel(table, offset, machine.native)

    def check(self, shapes: Any) -> None:
        if not (0 < self.slope < float("inf")):
            raise self.refusal(f"the slope {self.slope}", "a finite slope above 0")


def leaky_relu_table(
    x: QuantParams,
    y: QuantParams,
    slope: float,
    precision: type[np.floating[Any]] = np.float32,
    multiply: Multiply | None = None,
) -> NDArray[np.int8]:
    """Output codes for the 256 input codes, entry [q + 128]; multipliers in ``precision``. Shape (256,)."""
    codes = _scaled(np.arange(INT8_MIN, INT8_MAX + 1) - x.zero_point, x.scale, y.scale, slope, precision, multiply)
    return np.clip(codes + y.zero_point, INT8_MIN, INT8_MAX).astype(np.int8)


def _scaled(
    centred: NDArray[Any], sx: float, sy: float, slope: float, precision: Any, multiply: Multiply | None
) -> NDArray[np.int64]:
    a, b, c = precision(sx), precision(sy), precision(np.float32(slope))
    same, leak = (quantize_multiplier(np.float64(m)) for m in (a / b, a * c / b))
    above, below = ((multiply or multiply_by_quantized_multiplier)(centred, *m) for m in (same, leak))
    return np.where(centred >= 0, above, below)


@functools.lru_cache(maxsize=1024)
def kernels_agree(sx: float, sy: float, slope: float, multiply: Multiply | None = None) -> bool:
    """Whether all centred codes give the same with multipliers of float32 (LiteRT) and of float64 (TFLite Micro)."""
    centred = np.arange(-255, 256)
    first, second = (_scaled(centred, sx, sy, slope, precision, multiply) for precision in (np.float32, np.float64))
    return bool(np.array_equal(first, second))


def agreeing_output_scale(
    sx: float, sy: float, slope: float, shared: bool = False, multiply: Multiply | None = None
) -> float:
    """The next float32 at or above ``sy`` with which the kernels agree; ``shared``: it is the input's too.

    Raises:
        NoScale: none of the next 4096 values does.
    """

    def suits(scale: float) -> bool:
        return kernels_agree(scale if shared else sx, scale, slope, multiply)

    return next_scale(sy, suits, f"a leaky ReLU of inputs of scale {sx}")
