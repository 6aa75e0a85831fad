"""Zeros around maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from hatdet.integer.operators.base import Kernel, Machine, OneInput, RealFunction, Settings
from hatdet.integer.tensors import Shape


@dataclass(frozen=True)
class PadOp(OneInput):
    """Rows and columns of real zeros around a tensor. Parameters are unchanged."""

    kind: ClassVar[str] = "pad"
    shares_scale: ClassVar[bool] = True
    channelwise: ClassVar[bool] = True
    setting_names: ClassVar[tuple[str, ...]] = ("padding",)
    padding: tuple[int, int, int, int]  # top, bottom, left, right

    @classmethod
    def shape_of(cls, shapes: Sequence[Shape], settings: Settings) -> Shape:
        channels, height, width = shapes[0]
        top, bottom, left, right = settings["padding"]
        return channels, height + top + bottom, width + left + right

    @classmethod
    def real(cls, settings: Settings) -> RealFunction:
        top, bottom, left, right = settings["padding"]
        return lambda x, w, b: F.pad(x[0], (left, right, top, bottom))

    def make_kernel(self, machine: Machine) -> Kernel:
        real_zero = machine.qparams(self.input).zero_point - machine.offset(self.input)
        return lambda x: pad(x[0], self.padding, real_zero)

    def check(self, shapes: Sequence[Shape]) -> None:
        self.check_numbers("padding", self.padding, 4, 0)


def pad(x: Tensor, padding: tuple[int, int, int, int], value: int) -> Tensor:
    """``value`` (real zero, as it is carried) around maps; ``padding`` is (top, bottom, left, right)."""
    top, bottom, left, right = padding
    return F.pad(x, (left, right, top, bottom), value=value).contiguous(memory_format=torch.channels_last)
