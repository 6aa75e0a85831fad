"""Channels as blocks of pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from hatdet.integer.operators.base import Kernel, Machine, OneInput, RealFunction, Settings
from hatdet.integer.tensors import Shape


@dataclass(frozen=True)
class DepthToSpaceOp(OneInput):
    """Every pixel becomes ``block`` rows and columns of pixels. Parameters are unchanged.

    Channel c of the pixel (i, k) of a block is channel (i * block + k) * C + c of the input, where C channels come
    out: TensorFlow's order. torch's PixelShuffle has channel (c * block + i) * block + k there.
    """

    kind: ClassVar[str] = "depth_to_space"
    shares_scale: ClassVar[bool] = True
    setting_names: ClassVar[tuple[str, ...]] = ("block",)
    block: int

    @classmethod
    def shape_of(cls, shapes: Sequence[Shape], settings: Settings) -> Shape:
        (channels, height, width), block = shapes[0], settings["block"]
        return channels // block**2, height * block, width * block

    @classmethod
    def real(cls, settings: Settings) -> RealFunction:
        return lambda x, w, b: depth_to_space(x[0], settings["block"])

    def make_kernel(self, machine: Machine) -> Kernel:
        return lambda x: depth_to_space(x[0], self.block)

    def check(self, shapes: Sequence[Shape]) -> None:
        self.check_numbers("block", (self.block,), 1, 1)
        if shapes[0][0] % self.block**2:
            raise self.refusal(f"{shapes[0][0]} channels", f"multiples of {self.block**2}, the pixels of a block")


def depth_to_space(x: Tensor, block: int) -> Tensor:
    """(B, block * block * C, H, W) -> (B, C, H * block, W * block), channels last in memory."""
    batch, channels, height, width = x.shape
    blocks = x.permute(0, 2, 3, 1).reshape(batch, height, width, block, block, channels // block**2)
    rows = blocks.permute(0, 1, 3, 2, 4, 5).reshape(batch, height * block, width * block, channels // block**2)
    return rows.permute(0, 3, 1, 2)
