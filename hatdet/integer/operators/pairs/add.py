"""Sums."""

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
from hatdet.integer.operators.base import RealFunction, Settings
from hatdet.integer.operators.limits import real_limits
from hatdet.integer.operators.pairs.pair import TableOp
from hatdet.integer.profile import Profile
from hatdet.integer.tensors import QuantParams


@dataclass(frozen=True)
class AddOp(TableOp):
    """Elementwise sum of two tensors; the result of each pair of codes is ``Profile.add``: :func:`add_table`."""

    kind: ClassVar[str] = "add"
    verb: ClassVar[str] = "add"
    setting_names: ClassVar[tuple[str, ...]] = ("activation",)
    activation: str
    lo: int
    hi: int

    @classmethod
    def real(cls, settings: Settings) -> RealFunction:
        limits = real_limits(settings.get("activation", "none"))
        return lambda x, w, b: limits(x[0] + x[1])

    def table(self, profile: Profile, q1: QuantParams, q2: QuantParams, y: QuantParams) -> NDArray[np.int8]:
        return profile.add(q1, q2, y, self.lo, self.hi)


def add_table(
    scales: tuple[float, float, float],
    zero_points: tuple[int, int, int],
    lo: int,
    hi: int,
    sign: int = 1,
    multiply: Multiply | None = None,
) -> NDArray[np.int8]:
    """All results of the int8 ADD: entry [q1 + 128, q2 + 128] is the output code. Shape (256, 256).

    D = 2 * max(S1, S2); r = MBQM((q1 - Z1) << 20; S1 / D) + MBQM((q2 - Z2) << 20; S2 / D);
    y = MBQM(r; D / (2**20 * Sy)) + Zy, clamped to [lo, hi]. With ``sign`` -1 those of SUB: r is the difference.
    """
    scaled = multiply or multiply_by_quantized_multiplier
    s1, s2, sy = (np.float64(np.float32(s)) for s in scales)
    z1, z2, zy = zero_points
    double = 2.0 * max(s1, s2)
    codes = np.arange(INT8_MIN, INT8_MAX + 1, dtype=np.int64)
    r1 = scaled((codes - z1) << 20, *quantize_multiplier(s1 / double))
    r2 = scaled((codes - z2) << 20, *quantize_multiplier(s2 / double))
    total = r1[:, None] + sign * r2[None, :]
    y = scaled(total, *quantize_multiplier(double / (float(1 << 20) * sy))) + zy
    return np.clip(y, lo, hi).astype(np.int8)
