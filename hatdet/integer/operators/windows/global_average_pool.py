"""The average of whole maps, or of the equal parts of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from hatdet.integer.operators.base import Kernel, Machine, OneInput, RealFunction, Settings
from hatdet.integer.operators.windows.window import Pair, block_of, mean_of_codes
from hatdet.integer.tensors import Shape


@dataclass(frozen=True)
class GlobalAveragePoolOp(OneInput):
    """Mean of every channel, (C, H, W) -> (C, 1, 1), rounded half away from zero on codes. Parameters are unchanged.

    With another ``size`` (rows, columns) the means of so many equal blocks; of other maps there are none.
    """

    kind: ClassVar[str] = "global_average_pool"
    shares_scale: ClassVar[bool] = True
    channelwise: ClassVar[bool] = True
    setting_names: ClassVar[tuple[str, ...]] = ("size",)
    size: Pair = (1, 1)

    @classmethod
    def shape_of(cls, shapes: Sequence[Shape], settings: Settings) -> Shape:
        block_of(shapes[0], settings["size"])
        return shapes[0][0], *settings["size"]

    @classmethod
    def real(cls, settings: Settings) -> RealFunction:
        size = settings["size"]
        if size == (1, 1):
            return lambda x, w, b: x[0].mean((2, 3), keepdim=True)
        return lambda x, w, b: torch.nn.functional.adaptive_avg_pool2d(x[0], size)

    def make_kernel(self, machine: Machine) -> Kernel:
        offset = machine.offset(self.input)
        return lambda x: global_average_pool(x[0], offset, self.size)

    def check(self, shapes: Sequence[Shape]) -> None:
        self.check_numbers("size", self.size, 2, 1)
        block_of(shapes[0], self.size)


def global_average_pool(x: Tensor, zero: int, size: Pair = (1, 1)) -> Tensor:
    """Mean of each channel's codes, (B, C, H, W) -> (B, C, *size); ``x`` and the result hold ``code - zero``."""
    rows, columns = block_of(x.shape, size)
    dtype = torch.int64 if x.dtype == torch.uint8 else torch.float64
    blocks = x.unflatten(3, (size[1], columns)).unflatten(2, (size[0], rows))
    total = blocks.sum((3, 5), dtype=dtype) + rows * columns * zero
    mean = mean_of_codes(total.double(), rows * columns) - zero
    return mean.to(torch.int32).to(x.dtype).contiguous(memory_format=torch.channels_last)
