"""The average of whole maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from hatdet.integer.operators.base import Kernel, Machine, OneInput, RealFunction, Settings
from hatdet.integer.operators.windows.window import mean_of_codes
from hatdet.integer.tensors import Shape


@dataclass(frozen=True)
class GlobalAveragePoolOp(OneInput):
    """Mean of every channel, (C, H, W) -> (C, 1, 1), rounded half away from zero on codes. Parameters are unchanged."""

    kind: ClassVar[str] = "global_average_pool"
    shares_scale: ClassVar[bool] = True
    channelwise: ClassVar[bool] = True
    name: str
    input: str
    output: str

    @classmethod
    def shape_of(cls, shapes: Sequence[Shape], settings: Settings) -> Shape:
        return shapes[0][0], 1, 1

    @classmethod
    def real(cls, settings: Settings) -> RealFunction:
        return lambda x, w, b: x[0].mean((2, 3), keepdim=True)

    def make_kernel(self, machine: Machine) -> Kernel:
        offset = machine.offset(self.input)
        return lambda x: global_average_pool(x[0], offset)


def global_average_pool(x: Tensor, zero: int) -> Tensor:
    """Mean of each channel's codes, (B, C, H, W) -> (B, C, 1, 1); ``x`` and the result hold ``code - zero``."""
    n = x.shape[2] * x.shape[3]
    total = x.sum((2, 3), keepdim=True, dtype=torch.int64 if x.dtype == torch.uint8 else torch.float64) + n * zero
    mean = mean_of_codes(total.double(), n) - zero
    return mean.to(torch.int32).to(x.dtype).contiguous(memory_format=torch.channels_last)
