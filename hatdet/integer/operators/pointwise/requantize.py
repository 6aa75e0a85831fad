"""A change of quantization."""

from __future__ import annotations

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
from hatdet.integer.operators.base import Kernel, Machine, OneInput, RealFunction, Settings
from hatdet.integer.operators.lookups import table_kernel


@dataclass(frozen=True)
class RequantizeOp(OneInput):
    """Change of quantization: y = clamp(MBQM(x - Zx; Sx / Sy) + Zy)."""

    kind: ClassVar[str] = "requantize"
    channelwise: ClassVar[bool] = True

    @classmethod
    def real(cls, settings: Settings) -> RealFunction:
        return lambda x, w, b: x[0]

    def make_kernel(self, machine: Machine) -> Kernel:
        px, py = machine.qparams(self.input), machine.qparams(self.output)
        table = machine.table(machine.profile.requantize(px, py), py.zero_point)
        offset = machine.offset(self.input)
        return table_kernel(table, offset, machine.native)


def requantize_table(
    scale_in: float, zero_in: int, scale_out: float, zero_out: int, multiply: Multiply | None = None
) -> NDArray[np.int8]:
    """Output codes of the int8 to int8 QUANTIZE for the 256 input codes, entry [q + 128]. Shape (256,)."""
    ratio = np.float64(np.float32(scale_in)) / np.float64(np.float32(scale_out))
    codes = np.arange(INT8_MIN, INT8_MAX + 1, dtype=np.int64)
    y = (multiply or multiply_by_quantized_multiplier)(codes - zero_in, *quantize_multiplier(ratio)) + zero_out
    return np.clip(y, INT8_MIN, INT8_MAX).astype(np.int8)
