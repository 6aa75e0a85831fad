"""Convolutions that configs name beside the ordinary one: TensorFlow's padding, and transposed."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from hatdet.registry import register

Size = int | tuple[int, int]


@register(scope="mmdet")
class Conv2dAdaptivePadding(nn.Conv2d):
    """A convolution with TensorFlow's padding ``SAME``: ceil(H / stride) rows; of an odd number of zeros one more
    below and to the right. ``padding`` is without meaning.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, 0, dilation, groups, bias)

    def forward(self, x: Tensor) -> Tensor:
        down, right = (
            max((-(-side // stride) - 1) * stride + (kernel - 1) * dilation + 1 - side, 0)
            for side, stride, kernel, dilation in zip(
                x.shape[-2:], self.stride, self.kernel_size, self.dilation, strict=True
            )
        )
        if down or right:
            x = F.pad(x, (right // 2, right - right // 2, down // 2, down - down // 2))
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


@register("deconv2d", scope="mmdet")
def deconv(
    in_channels: int,
    out_channels: int,
    kernel_size: Size,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    bias: bool = True,
    dilation: Size = 1,
) -> nn.ConvTranspose2d:
    """A transposed convolution."""
    return nn.ConvTranspose2d(
        in_channels, out_channels, kernel_size, stride, padding, output_padding, groups, bias, dilation
    )
