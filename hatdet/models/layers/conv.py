"""Convolution, batch norm and activation as one module."""

from __future__ import annotations

from torch import Tensor, nn

from hatdet.models.layers.activations import build_activation


class ConvModule(nn.Module):
    """Convolution without bias, batch norm, activation: ``conv``, ``bn``, ``activate``.

    (B, in_channels, H, W) -> (B, out_channels, ceil(H / stride), ceil(W / stride)); padding kernel_size // 2.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: odd side of the square kernel.
        stride: step on both axes.
        groups: groups of the convolution; ``in_channels`` for a depthwise one.
        activation: class name of ``torch.nn`` (see :data:`~hatdet.models.layers.activations.ACTIVATIONS`), or None.

    Raises:
        ValueError: an even kernel, or an unknown activation.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        groups: int = 1,
        activation: str | None = "SiLU",
    ) -> None:
        super().__init__()
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd (it is padded to keep the size), got {kernel_size}")
        self.conv = nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=kernel_size // 2,
            groups=groups,
            bias=False,
        )
        self.bn = nn.BatchNorm2d(out_channels)
        activate = build_activation(activation)
        self.activate = nn.Identity() if activate is None else activate

    def forward(self, x: Tensor) -> Tensor:
        return self.activate(self.bn(self.conv(x)))


class DepthwiseSeparableConvModule(nn.Module):
    """A depthwise :class:`ConvModule`, then a 1x1 one: ``depthwise_conv``, ``pointwise_conv``.

    Both have batch norm and activation. Takes the arguments of :class:`ConvModule` (no groups).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        activation: str | None = "SiLU",
    ) -> None:
        super().__init__()
        self.depthwise_conv = ConvModule(
            in_channels, in_channels, kernel_size, stride=stride, groups=in_channels, activation=activation
        )
        self.pointwise_conv = ConvModule(in_channels, out_channels, 1, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise_conv(self.depthwise_conv(x))


def conv_class(use_depthwise: bool) -> type[ConvModule] | type[DepthwiseSeparableConvModule]:
    """The convolution block of a network: depthwise separable or dense."""
    return DepthwiseSeparableConvModule if use_depthwise else ConvModule
