"""Depthwise separable convolutions with the parameter names of NanoDet's weights."""

from __future__ import annotations

from torch import Tensor, nn

from hatdet.models.layers.activations import build_activation


class DepthwiseConv(nn.Module):
    """A depthwise convolution, then a 1x1 one, each with batch norm and activation.

    (B, in_channels, H, W) -> (B, out_channels, ceil(H / stride), ceil(W / stride)): ``depthwise``, ``dwnorm``,
    ``pointwise``, ``pwnorm``.

    Args:
        in_channels, out_channels: of the layer.
        kernel_size: odd side of the depthwise kernel.
        stride: of the depthwise convolution.
        activation: class name of ``torch.nn``.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1, activation: str = "ReLU6"
    ) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(
            in_channels, in_channels, kernel_size, stride, kernel_size // 2, groups=in_channels, bias=False
        )
        self.dwnorm = nn.BatchNorm2d(in_channels)
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.pwnorm = nn.BatchNorm2d(out_channels)
        act = build_activation(activation)
        self.act = nn.Identity() if act is None else act

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.dwnorm(self.depthwise(x)))
        return self.act(self.pwnorm(self.pointwise(x)))  # type: ignore[no-any-return]
