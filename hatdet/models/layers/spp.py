"""Spatial pyramid pooling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from hatdet.models.layers.conv import ConvModule

Pooling = Literal["parallel", "chained", "chained_3x3"]


class SPP(nn.Module):
    """1x1 convolution, max pools of growing size beside the identity, 1x1 convolution on all of them.

    (B, in_channels, H, W) -> (B, out_channels, H, W); ``conv1`` halves the channels, ``conv2`` mixes the
    concatenation (identity, smallest pool, ..., largest pool).

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_sizes: odd sides of the pools, growing.
        pooling: how the pools are computed. All three give the same values bit for bit, since the maximum
            over a large window is the maximum over smaller ones: ``"parallel"``, one pool a size;
            ``"chained"``, each pool works on the one before (5, 9, 13 are three pools of 5);
            ``"chained_3x3"``, the same from 3x3 pools only, for devices whose pools stop there.
        activation: see :class:`ConvModule`.

    Raises:
        ValueError: kernel sizes that are even or do not grow, or an unknown ``pooling``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_sizes: Sequence[int] = (5, 9, 13),
        pooling: Pooling = "chained",
        activation: str | None = "SiLU",
    ) -> None:
        super().__init__()
        sizes = tuple(kernel_sizes)
        if any(size % 2 == 0 for size in sizes) or sorted({1, *sizes}) != [1, *sizes]:
            raise ValueError(f"kernel_sizes must be odd, above 1 and growing, e.g. (5, 9, 13), got {sizes}")
        mid_channels = in_channels // 2
        self.pooling = pooling
        self.conv1 = ConvModule(in_channels, mid_channels, 1, activation=activation)
        self.poolings = nn.ModuleList(_pools(sizes, pooling))
        self.conv2 = ConvModule(mid_channels * (len(sizes) + 1), out_channels, 1, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        maps = [x]
        for pool in self.poolings:
            maps.append(pool(x if self.pooling == "parallel" else maps[-1]))
        return self.conv2(torch.cat(maps, dim=1))


def _pools(sizes: tuple[int, ...], pooling: str) -> list[nn.Module]:
    if pooling == "parallel":
        return [_max_pool(size) for size in sizes]
    # A window of a over a window of b sees a + b - 1 positions.
    steps = [size - before + 1 for size, before in zip(sizes, (1, *sizes[:-1]), strict=True)]
    if pooling == "chained":
        return [_max_pool(step) for step in steps]
    if pooling == "chained_3x3":
        return [nn.Sequential(*(_max_pool(3) for _ in range(step // 2))) for step in steps]
    raise ValueError(f"unknown pooling {pooling!r}; write 'parallel', 'chained' or 'chained_3x3'")


def _max_pool(kernel_size: int) -> nn.MaxPool2d:
    return nn.MaxPool2d(kernel_size, stride=1, padding=kernel_size // 2)
