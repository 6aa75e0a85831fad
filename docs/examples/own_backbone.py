"""A backbone of one's own: depthwise separable convolutions, three maps."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from hatdet.models.feature_info import FeatureInfo
from hatdet.registry import register


def conv(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution, batch norm, ReLU6: what every NPU runs as one operator."""
    padding = kernel_size // 2
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU6(),
    )


@register
class ThinNet(nn.Module):
    """Halves the picture five times; images (B, 3, H, W) -> maps at strides 8, 16 and 32.

    Args:
        in_channels: 3, or 1 for gray pictures (a config with input_color="gray" sets it).
        channels: of the maps at strides 2, 4, 8, 16, 32.
    """

    def __init__(self, *, in_channels: int = 3, channels: Sequence[int] = (16, 24, 48, 64, 96)) -> None:
        super().__init__()
        if len(channels) != 5:
            raise ValueError(f"ThinNet has five stages, got channels={list(channels)}")
        self.in_channels = in_channels
        self.feature_info = FeatureInfo(tuple(channels[2:]), (8, 16, 32))
        self.stem = conv(in_channels, channels[0], 3, stride=2)
        self.stages = nn.ModuleList(
            nn.Sequential(conv(a, a, 3, stride=2, groups=a), conv(a, b, 1))
            for a, b in pairwise(channels)
        )

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        maps = [self.stem(images)]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return tuple(maps[2:])
