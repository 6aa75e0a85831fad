"""Nearest-neighbour resizing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F

from hatdet.integer.operators.base import Kernel, Machine, OneInput, RealFunction, Settings
from hatdet.integer.tensors import Shape


@dataclass(frozen=True)
class ResizeNearestOp(OneInput):
    """Nearest-neighbour enlargement by an integer factor on both axes. Parameters are unchanged."""

    kind: ClassVar[str] = "resize_nearest"
    shares_scale: ClassVar[bool] = True
    channelwise: ClassVar[bool] = True
    setting_names: ClassVar[tuple[str, ...]] = ("factor",)
    name: str
    input: str
    output: str
    factor: int

    @classmethod
    def shape_of(cls, shapes: Sequence[Shape], settings: Settings) -> Shape:
        channels, height, width = shapes[0]
        return channels, height * settings["factor"], width * settings["factor"]

    @classmethod
    def real(cls, settings: Settings) -> RealFunction:
        factor = float(settings["factor"])
        return lambda x, w, b: F.interpolate(x[0], scale_factor=factor, mode="nearest")

    def make_kernel(self, machine: Machine) -> Kernel:
        factor = float(self.factor)
        return lambda x: F.interpolate(x[0], scale_factor=factor, mode="nearest")

    def check(self, shapes: Sequence[Shape]) -> None:
        if self.factor < 1:
            raise self.refusal(f"factor {self.factor}", "at least 1")
