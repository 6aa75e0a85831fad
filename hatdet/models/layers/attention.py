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


class SqueezeExcitation(nn.Module):
    """``x * hardsigmoid(conv2(relu(conv1(mean(x)))))``: squeeze-and-excitation (arXiv 1709.01507) as MobileNetV3 has
    it (arXiv 1905.02244), both layers 1x1 convolutions with biases.

    Args:
        channels: of the map (B, channels, H, W), whose shape stays.
        reduction: ``conv1`` gives ``channels // reduction`` channels.
    """

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__()
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.conv1 = nn.Conv2d(channels, channels // reduction, 1)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels // reduction, channels, 1)
        self.hardsigmoid = nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.hardsigmoid(self.conv2(self.relu(self.conv1(self.avg_pool(x)))))
