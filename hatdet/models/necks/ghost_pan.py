"""Ghost-PAN of NanoDet-Plus: path aggregation by ghost bottlenecks, with the parameter names of its weights.

The network is that of the project (RangiLyu/nanodet, Apache-2.0), which describes it in its README and configs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from hatdet.models.fitting import doubling, told
from hatdet.models.layers.conv import ConvModule
from hatdet.models.layers.depthwise import DepthwiseConv
from hatdet.models.layers.ghost import GhostBottleneck
from hatdet.registry import register


class GhostBlocks(nn.Module):
    """Ghost bottlenecks one after the other: ``blocks``."""

    def __init__(self, in_channels: int, out_channels: int, count: int, kernel_size: int, activation: str) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            *(
                GhostBottleneck(
                    in_channels if i == 0 else out_channels, out_channels, out_channels, kernel_size, activation
                )
                for i in range(count)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(x)  # type: ignore[no-any-return]


@register
class GhostPAN(nn.Module):
    """Top-down, then bottom-up mixing of maps, and coarser maps behind the last.

    Tuple of (B, in_channels[i], H_i, W_i), each half the size of the one before -> tuple of these sizes and
    ``num_extra_levels`` halved ones, all with ``out_channels`` channels. Concatenations are (upsampled, finer map) and
    (downsampled, coarser map); a further map is the sum of two convolutions with a step of 2: of the coarsest map as it
    comes in, and of the one before.

    Args:
        in_channels: of the maps; in a detector's config it may be left out.
        out_channels: of each returned map.
        kernel_size: of depthwise convolutions.
        num_blocks: ghost bottlenecks of each mixture.
        num_extra_levels: further maps.
        upsample: ``bilinear`` (as published) or ``nearest``.
        activation: class name of ``torch.nn``; the published one is LeakyReLU.

    Raises:
        ValueError: fewer than two maps, or no ``in_channels``.
    """

    def __init__(
        self,
        *,
        in_channels: Sequence[int] | None = None,
        out_channels: int = 96,
        kernel_size: int = 5,
        num_blocks: int = 1,
        num_extra_levels: int = 1,
        upsample: Literal["bilinear", "nearest"] = "bilinear",
        activation: str = "LeakyReLU",
    ) -> None:
        super().__init__()
        in_channels = told(in_channels, "in_channels")
        if len(in_channels) < 2:
            raise ValueError(f"in_channels needs at least two maps to mix, got {list(in_channels)}")
        self.in_channels, self.out_channels, self.num_extra_levels = tuple(in_channels), out_channels, num_extra_levels

        def mixture() -> GhostBlocks:
            return GhostBlocks(2 * out_channels, out_channels, num_blocks, kernel_size, activation)

        def halving() -> DepthwiseConv:
            return DepthwiseConv(out_channels, out_channels, kernel_size, stride=2, activation=activation)

        steps = range(len(in_channels) - 1)
        self.upsample = nn.Upsample(scale_factor=2, mode=upsample)
        self.reduce_layers = nn.ModuleList(ConvModule(c, out_channels, 1, activation=activation) for c in in_channels)
        self.top_down_blocks = nn.ModuleList(mixture() for _ in steps)  # coarsest first
        self.downsamples = nn.ModuleList(halving() for _ in steps)
        self.bottom_up_blocks = nn.ModuleList(mixture() for _ in steps)
        self.extra_lvl_in_conv = nn.ModuleList(halving() for _ in range(num_extra_levels))
        self.extra_lvl_out_conv = nn.ModuleList(halving() for _ in range(num_extra_levels))

    def output_strides(self, in_strides: Sequence[int]) -> tuple[int, ...]:
        """Strides of the maps returned for maps of ``in_strides``.

        Raises:
            MisfitError: a map that is not half the size of the one before.
        """
        strides = doubling(in_strides)
        return (*strides, *(strides[-1] * 2 ** (i + 1) for i in range(self.num_extra_levels)))

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        maps = [reduce(feats[i]) for i, reduce in enumerate(self.reduce_layers)]
        inner = [maps[-1]]  # finest first
        for block, low in zip(self.top_down_blocks, reversed(maps[:-1]), strict=True):
            inner.insert(0, block(torch.cat((self.upsample(inner[0]), low), dim=1)))
        outs = [inner[0]]
        for down, block, high in zip(self.downsamples, self.bottom_up_blocks, inner[1:], strict=True):
            outs.append(block(torch.cat((down(outs[-1]), high), dim=1)))
        for of_input, of_output in zip(self.extra_lvl_in_conv, self.extra_lvl_out_conv, strict=True):
            outs.append(of_input(maps[-1]) + of_output(outs[-1]))
        return tuple(outs)
