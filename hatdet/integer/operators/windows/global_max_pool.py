"""The maximum of whole maps, or of the equal parts of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from hatdet.integer.operators.base import Kernel, Machine, OneInput, RealFunction, Settings
from hatdet.integer.operators.windows.window import Pair, block_of
from hatdet.integer.tensors import Shape


@dataclass(frozen=True)
class GlobalMaxPoolOp(OneInput):
    """Maximum of every channel, (C, H, W) -> (C, 1, 1). Parameters are unchanged.

    With another ``size`` (rows, columns) the maxima of so many equal blocks; of other maps there are none.
    """

    kind: ClassVar[str] = "global_max_pool"
    shares_scale: ClassVar[bool] = True
    channelwise: ClassVar[bool] = True
    setting_names: ClassVar[tuple[str, ...]] = ("size",)
    size: Pair

    @classmethod
    def shape_of(cls, shapes: Sequence[Shape], settings: Settings) -> Shape:
        block_of(shapes[0], settings["size"])
        return shapes[0][0], *settings["size"]

    @classmethod
    def real(cls, settings: Settings) -> RealFunction:
        return lambda x, w, b: torch.nn.functional.adaptive_max_pool2d(x[0], settings["size"])

    def make_kernel(self, machine: Machine) -> Kernel:
        return lambda x: global_max_pool(x[0], self.size)

    def check(self, shapes: Sequence[Shape]) -> None:
        self.check_numbers("size", self.size, 2, 1)
        block_of(shapes[0], self.size)


def global_max_pool(x: Tensor, size: Pair) -> Tensor:
    """Maximum of each channel's codes, (B, C, H, W) -> (B, C, *size)."""
    rows, columns = block_of(x.shape, size)
    blocks = x.unflatten(3, (size[1], columns)).unflatten(2, (size[0], rows))
    return blocks.amax((3, 5)).contiguous(memory_format=torch.channels_last)
