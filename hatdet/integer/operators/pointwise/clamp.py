"""Limits of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hatdet.integer.operators.base import Kernel, Machine, OneInput, RealFunction, Settings
from hatdet.integer.operators.limits import real_limits


@dataclass(frozen=True)
class ClampOp(OneInput):
    """Limits that no convolution or addition takes in: codes clamped to [lo, hi]. Parameters are unchanged."""

    kind: ClassVar[str] = "clamp"
    shares_scale: ClassVar[bool] = True
    channelwise: ClassVar[bool] = True
    setting_names: ClassVar[tuple[str, ...]] = ("activation",)
    activation: str  # as arithmetic.limits_name says it
    lo: int
    hi: int

    @classmethod
    def real(cls, settings: Settings) -> RealFunction:
        limits = real_limits(settings["activation"])
        return lambda x, w, b: limits(x[0])

    def make_kernel(self, machine: Machine) -> Kernel:
        offset = machine.offset(self.input)
        return lambda x: x[0].clamp(self.lo - offset, self.hi - offset)
