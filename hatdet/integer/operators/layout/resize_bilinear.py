"""Bilinear resizing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from hatdet.integer.operators.base import Kernel, Machine, RealFunction, Settings
from hatdet.integer.operators.layout.resizing import BY_FACTOR, ResizeOp, factor_of
from hatdet.integer.operators.windows.window import Pair
from hatdet.integer.tensors import Shape

FACTORS = (2, 4, 8)


@dataclass(frozen=True)
class ResizeBilinearOp(ResizeOp):
    """Bilinear enlargement by 2, 4 or 8 with half-pixel centres (torch's ``align_corners=False``).

    The weighted sum of four codes, rounded half away from zero on codes. Parameters are unchanged.
    """

    kind: ClassVar[str] = "resize_bilinear"
    shares_scale: ClassVar[bool] = True
    channelwise: ClassVar[bool] = True
    setting_names: ClassVar[tuple[str, ...]] = ("factor", "size")
    factor: int
    size: Pair = BY_FACTOR

    @classmethod
    def real(cls, settings: Settings) -> RealFunction:
        return lambda x, w, b: F.interpolate(
            x[0], scale_factor=float(factor_of(x[0].shape, **settings)), mode="bilinear"
        )

    def make_kernel(self, machine: Machine) -> Kernel:
        offset, resize = machine.offset(self.input), machine.profile.bilinear
        return lambda x: resize(x[0], factor_of(x[0].shape, self.factor, self.size), offset)

    def check(self, shapes: Sequence[Shape]) -> None:
        if (factor := self.check_factor(shapes[0], 0)) not in FACTORS:
            raise self.refusal(f"factor {factor}", "2, 4 or 8")


def resize_bilinear(x: Tensor, factor: int, zero: int, up: bool = False) -> Tensor:
    """Bilinear enlargement of codes (half-pixel centres); ``x`` and the result hold ``code - zero``.

    For factors 2, 4 and 8 the weights are multiples of 1/256: float32 holds the sum exactly. It is rounded to nearest,
    on ties away from zero as seen by codes, or ``up``.
    """
    real = F.interpolate(x.float(), scale_factor=float(factor), mode="bilinear", align_corners=False)
    # round(v + zero) - zero: on ties up where v + zero > 0, and down where v + zero < 0
    tie = 1.0 / (1 << 10)
    shift = 0.5 if up else torch.where(real > -zero, 0.5, 0.5 - tie)
    codes = torch.floor(real.add_(shift))
    return codes.to(torch.int32).to(x.dtype) if x.dtype == torch.uint8 else codes
