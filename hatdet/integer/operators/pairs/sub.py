"""Differences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from hatdet.integer.operators.base import RealFunction, Settings
from hatdet.integer.operators.limits import real_limits
from hatdet.integer.operators.pairs.pair import TableOp
from hatdet.integer.profile import Profile
from hatdet.integer.tensors import QuantParams


@dataclass(frozen=True)
class SubOp(TableOp):
    """Elementwise difference ``input1 - input2``; each pair of codes as in a sum (:func:`~.add.add_table`), but the
    second's share is subtracted after it was rounded (negating its multiplier would round its ties the other way)."""

    kind: ClassVar[str] = "sub"
    verb: ClassVar[str] = "subtract"
    setting_names: ClassVar[tuple[str, ...]] = ("activation",)
    activation: str
    lo: int
    hi: int

    @classmethod
    def real(cls, settings: Settings) -> RealFunction:
        limits = real_limits(settings.get("activation", "none"))
        return lambda x, w, b: limits(x[0] - x[1])

    def table(self, profile: Profile, q1: QuantParams, q2: QuantParams, y: QuantParams) -> NDArray[np.int8]:
        return profile.add(q1, q2, y, self.lo, self.hi, sign=-1)
