"""Convolutions that configs name beside the ordinary one: TensorFlow's padding, and transposed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from hatdet.registry import register

Size = int | tuple[int, int]


class SamePadding(nn.Module):
    """The zeros of TensorFlow's padding ``SAME``: a convolution behind them gives ceil(H / stride) rows. Of an odd
    number of zeros one more is below and to the right.

    Args:
        kernel_size, stride, dilation: of the convolution, rows and columns.
    """

    def __init__(self, kernel_size: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> None:
        super().__init__()
        self.reach = tuple((kernel - 1) * step + 1 for kernel, step in zip(kernel_size, dilation, strict=True))
        self.stride = tuple(stride)

    def needed(self, x: Tensor) -> tuple[int, int]:
        """Rows and columns of zeros."""
        down, right = (
            max((-(-side // stride) - 1) * stride + reach - side, 0)
            for side, stride, reach in zip(x.shape[-2:], self.stride, self.reach, strict=True)
        )
        return down, right

    def forward(self, x: Tensor) -> Tensor:
        down, right = self.needed(x)
        if not down and not right:
            return x
        return F.pad(x, (right // 2, right - right // 2, down // 2, down - down // 2))


class CornerPadding(SamePadding):
    """As many zeros, all of them below and to the right."""

    def forward(self, x: Tensor) -> Tensor:
        down, right = self.needed(x)
        return F.pad(x, (0, right, 0, down)) if down or right else x


@register(scope="mmdet")
class Conv2dAdaptivePadding(nn.Conv2d):
    """A convolution behind :class:`SamePadding`; ``padding`` is without meaning."""

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
        self.same = SamePadding(self.kernel_size, self.stride, self.dilation)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.same(x))

    def apart(self) -> tuple[SamePadding | None, nn.Conv2d]:
        """Padding, and an ordinary convolution with the same parameters; what sees a network by its modules knows
        both. With a stride of 1 and an odd reach the convolution can pad by itself."""
        sizes: dict[str, Any] = {key: getattr(self, key) for key in ("kernel_size", "stride", "dilation", "groups")}
        plain = nn.Conv2d(self.in_channels, self.out_channels, bias=self.bias is not None, device="meta", **sizes)
        plain.weight, plain.bias = self.weight, self.bias
        if self.stride == (1, 1) and all(reach % 2 for reach in self.same.reach):
            plain.padding = (self.same.reach[0] // 2, self.same.reach[1] // 2)
            return None, plain
        return self.same, plain


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
