"""ReLU with a slope that is learned: He et al., "Delving Deep into Rectifiers" (2015)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
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
from hatdet.integer.operators.pairs.mul import mul_kernels_agree
from hatdet.integer.profile import next_scale
from hatdet.integer.tensors import QuantParams, Shape


@dataclass(frozen=True, eq=False)
class PreluOp(OneInput):
    """x where x >= 0, else a_c * x: y = clamp(MBQM(x - Zx; Sx / Sy) + Zy), or MBQM((x - Zx) * alpha_c; Sx * Sa / Sy).

    Source: the reference kernels of TensorFlow Lite (``PRELU``). LiteRT computes multipliers in float32, TFLite Micro
    in float64: scales must be such that no code depends on it (:func:`kernels_agree`).
    """

    kind: ClassVar[str] = "prelu"
    alpha: NDArray[np.int8]  # (C,), or (1,) for all channels; zero point 0
    alpha_scale: float

    @classmethod
    def real(cls, settings: Settings) -> RealFunction:
        return lambda x, w, b: F.prelu(x[0], w)  # type: ignore[arg-type]

    def make_kernel(self, machine: Machine) -> Kernel:
        py, offset = machine.qparams(self.output), machine.offset(self.input)
        codes = machine.profile.prelu(machine.qparams(self.input), py, self.alpha, self.alpha_scale)
        table = machine.table(codes, py.zero_point)
        return table_kernel(table, offset, machine.native)

    def check(self, shapes: Sequence[Shape]) -> None:
        if self.alpha.dtype != np.int8 or self.alpha.shape not in ((1,), shapes[0][:1]):
            found = f"slopes of {self.alpha.shape} {self.alpha.dtype}"
            raise self.refusal(found, f"int8, one or one for each of {shapes[0][0]} channels")
        if not 0 < self.alpha_scale < float("inf"):
            raise self.refusal(f"slopes with the scale {self.alpha_scale}", "a finite scale above 0")

    def reordered(self, channels: Sequence[int]) -> PreluOp:
        return self if len(self.alpha) == 1 else replace(self, alpha=self.alpha[list(channels)])

    @property
    def stored(self) -> tuple[NDArray[Any], ...]:
        return (self.alpha,)


def prelu_table(
    x: QuantParams,
    y: QuantParams,
    alpha: NDArray[Any],
    alpha_scale: float,
    precision: Any = np.float32,
    multiply: Multiply | None = None,
) -> NDArray[np.int8]:
    """Output codes for the 256 input codes and every slope, entry [c, q + 128]; multipliers in ``precision``."""
    sx, sy, sa = precision(x.scale), precision(y.scale), precision(alpha_scale)
    centred = np.arange(INT8_MIN, INT8_MAX + 1) - x.zero_point
    same, steep = (quantize_multiplier(np.float64(m)) for m in (sx / sy, sx * sa / sy))
    scaled = multiply or multiply_by_quantized_multiplier
    above = scaled(centred, *same)
    below = scaled(alpha.astype(np.int64)[:, None] * centred, *steep)
    return np.clip(np.where(centred >= 0, above, below) + y.zero_point, INT8_MIN, INT8_MAX).astype(np.int8)


def kernels_agree(sx: float, sa: float, sy: float, multiply: Multiply | None = None) -> bool:
    """Whether every slope gives the same with multipliers of float32 (LiteRT) and of float64 (TFLite Micro).

    Both are the multipliers of products: with the slopes' scale, and with 1.
    """
    return mul_kernels_agree(sx, sa, sy, multiply) and mul_kernels_agree(sx, 1.0, sy, multiply)


def agreeing_output_scale(
    sx: float, sa: float, sy: float, shared: bool = False, multiply: Multiply | None = None
) -> float:
    """The next float32 at or above ``sy`` with which the kernels agree; ``shared``: it is the input's too.

    Raises:
        NoScale: none of the next 4096 values does.
    """

    def suits(scale: float) -> bool:
        return kernels_agree(scale if shared else sx, sa, scale, multiply)

    return next_scale(sy, suits, f"a PReLU of inputs of scale {sx} with slopes of scale {sa}")
