"""Attention layers."""

from __future__ import annotations

from torch import Tensor, nn


class ChannelAttention(nn.Module):
    """Scale each channel by a gate of the global mean: ``x * hardsigmoid(fc(mean(x)))``.

    Squeeze-and-excitation (Hu et al., 2018, equation 2-4) with one fully connected layer, kept as a 1x1
    convolution ``fc``. The shape (B, channels, H, W) stays.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.global_avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Conv2d(channels, channels, 1)
        self.act = nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.act(self.fc(self.global_avgpool(x)))
