"""Convolutional block attention (arXiv 1807.06521)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hatdet.registry import register


@register(scope="mmdet")
class CBAM(nn.Module):
    """A factor for each channel, then one for each position, from means and largest values.

    Args:
        in_channels: of the map.
        ratio: ``in_channels / ratio`` channels in between.
        kernel_size: of the convolution that says the factors of positions, odd.
    """

    one_operator = True  # a quantizer refuses it by its name, not by what it is made of

    def __init__(self, in_channels: int, ratio: int = 16, kernel_size: int = 7) -> None:
        super().__init__()
        between = max(in_channels // ratio, 1)
        self.avg_pool, self.max_pool = nn.AdaptiveAvgPool2d(1), nn.AdaptiveMaxPool2d(1)
        self.mlp = nn.Sequential(
            nn.Conv2d(in_channels, between, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(between, in_channels, 1, bias=False),
        )
        self.spatial = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        x = x * torch.sigmoid(self.mlp(self.avg_pool(x)) + self.mlp(self.max_pool(x)))
        told = torch.cat([x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)], dim=1)
        return x * torch.sigmoid(self.spatial(told))
