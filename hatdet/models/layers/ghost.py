"""Ghost modules and the ghost bottleneck (Han et al., arXiv 1911.11907), with the parameter names of its weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hatdet.models.layers.activations import build_activation


def conv_norm(
    in_channels: int, out_channels: int, kernel_size: int, *, depthwise: bool = False, activation: str | None = None
) -> nn.Sequential:
    """A convolution that keeps the size, without bias, its batch norm, and an activation where there is one."""
    groups = in_channels if depthwise else 1
    layers: list[nn.Module] = [
        nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out_channels),
    ]
    act = build_activation(activation)
    return nn.Sequential(*layers) if act is None else nn.Sequential(*layers, act)


class GhostModule(nn.Module):
    """Half of the channels by a 1x1 convolution, the other half of these by a 3x3 depthwise one (figure 1b).

    (B, in_channels, H, W) -> (B, out_channels, H, W): ``primary_conv``, then ``cheap_operation``.

    Raises:
        ValueError: an odd number of ``out_channels``.
    """

    def __init__(self, in_channels: int, out_channels: int, activation: str | None) -> None:
        super().__init__()
        if out_channels % 2:
            raise ValueError(f"a ghost module makes its channels in two halves, got out_channels={out_channels}")
        half = out_channels // 2
        self.primary_conv = conv_norm(in_channels, half, 1, activation=activation)
        self.cheap_operation = conv_norm(half, half, 3, depthwise=True, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        first = self.primary_conv(x)
        return torch.cat((first, self.cheap_operation(first)), dim=1)


class GhostBottleneck(nn.Module):
    """Two ghost modules, the second without an activation, and beside them a depthwise and a 1x1 convolution, which
    the identity stands for where shapes agree (figure 3, a step of 1).

    Args:
        in_channels, out_channels: of the block.
        hidden: channels between the modules.
        kernel_size: of the depthwise convolution beside.
        activation: class name of ``torch.nn``.
    """

    def __init__(self, in_channels: int, hidden: int, out_channels: int, kernel_size: int, activation: str) -> None:
        super().__init__()
        self.ghost1 = GhostModule(in_channels, hidden, activation)
        self.ghost2 = GhostModule(hidden, out_channels, None)
        self.shortcut = nn.Sequential()
        if in_channels != out_channels:
            self.shortcut = nn.Sequential(
                *conv_norm(in_channels, in_channels, kernel_size, depthwise=True),
                *conv_norm(in_channels, out_channels, 1),
            )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.ghost2(self.ghost1(x))
        return out + self.shortcut(x)
