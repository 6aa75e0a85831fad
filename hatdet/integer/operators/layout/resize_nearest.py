"""Nearest-neighbour resizing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from hatdet.integer.operators.base import Kernel, Machine, RealFunction, Settings
from hatdet.integer.operators.layout.resizing import BY_FACTOR, ResizeOp, factor_of
from hatdet.integer.operators.windows.window import Pair
from hatdet.integer.tensors import Shape


@dataclass(frozen=True)
class ResizeNearestOp(ResizeOp):
    """Nearest-neighbour enlargement by an integer factor on both axes. Parameters are unchanged."""

    kind: ClassVar[str] = "resize_nearest"
    shares_scale: ClassVar[bool] = True
    channelwise: ClassVar[bool] = True
    setting_names: ClassVar[tuple[str, ...]] = ("factor", "size")
    factor: int
    size: Pair = BY_FACTOR

    @classmethod
    def real(cls, settings: Settings) -> RealFunction:
        return lambda x, w, b: resize_nearest(x[0], factor_of(x[0].shape, **settings))

    def make_kernel(self, machine: Machine) -> Kernel:
        return lambda x: resize_nearest(x[0], factor_of(x[0].shape, self.factor, self.size))

    def check(self, shapes: Sequence[Shape]) -> None:
        self.check_factor(shapes[0], 1)


def resize_nearest(x: Tensor, factor: int) -> Tensor:
    """Every value ``factor`` times in a row and in a column."""
    return F.interpolate(x, scale_factor=float(factor), mode="nearest")
