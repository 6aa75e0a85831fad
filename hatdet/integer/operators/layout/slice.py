"""Parts of maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from hatdet.integer.operators.base import Kernel, Machine, OneInput, RealFunction, Settings
from hatdet.integer.operators.windows.window import Pair
from hatdet.integer.tensors import Shape

Place = tuple[int, int, int]
"""(n, d, k): the place ``size * n // d + k`` on an axis, within it; so that a part holds for maps of any size."""
Places = tuple[Place, Place, Place]
"""On the axes (C, H, W)."""
FIRST, LAST = (0, 1, 0), (1, 1, 0)


@dataclass(frozen=True)
class SliceOp(OneInput):
    """Channels, rows and columns from ``begin`` to before ``end``, of rows and columns every ``stride``-th. Parameters
    are unchanged."""

    kind: ClassVar[str] = "slice"
    shares_scale: ClassVar[bool] = True
    setting_names: ClassVar[tuple[str, ...]] = ("begin", "end", "stride")
    begin: Places
    end: Places
    stride: Pair

    @classmethod
    def shape_of(cls, shapes: Sequence[Shape], settings: Settings) -> Shape:
        channels, rows, columns = (
            len(range(size)[part]) for size, part in zip(shapes[0], slices(shapes[0], **settings), strict=True)
        )
        return channels, rows, columns

    @classmethod
    def real(cls, settings: Settings) -> RealFunction:
        return lambda x, w, b: slice_map(x[0], **settings)

    def make_kernel(self, machine: Machine) -> Kernel:
        return lambda x: slice_map(x[0], **self.settings)

    def check(self, shapes: Sequence[Shape]) -> None:
        self.check_numbers("stride", self.stride, 2, 1)
        for name in ("begin", "end"):
            places = getattr(self, name)
            if len(places) != 3 or any(len(place) != 3 or place[1] < 1 for place in places):
                raise self.refusal(f"{name} {places}", "(numerator, denominator, offset) of each axis")
        if 0 in (made := self.shape_of(shapes, self.settings)):
            raise self.refusal(f"an empty part, {made} of {shapes[0]}", "parts with something in them")


def slices(shape: Shape, begin: Places, end: Places, stride: Pair) -> tuple[slice, slice, slice]:
    """The part of a map (C, H, W) in numbers."""
    axes = zip(shape, begin, end, (1, *stride), strict=True)
    channels, rows, columns = (slice(_at(first, size), _at(last, size), step) for size, first, last, step in axes)
    return channels, rows, columns


def slice_map(x: Tensor, begin: Places, end: Places, stride: Pair) -> Tensor:
    """The part of maps (B, C, H, W)."""
    _, channels, rows, columns = x.shape
    part = x[(slice(None), *slices((channels, rows, columns), begin, end, stride))]
    return part.contiguous(memory_format=torch.channels_last)


def _at(place: Place, size: int) -> int:
    numerator, denominator, offset = place
    return min(max(size * numerator // denominator + offset, 0), size)
