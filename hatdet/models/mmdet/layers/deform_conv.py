"""Deformable convolution (arXiv 1703.06211) and its modulated form (arXiv 1811.11168), in plain PyTorch."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hatdet.registry import register

Pair = int | tuple[int, int]
_KEPT = 2**24
"""Of so many values that taps read all are kept for the gradients; of more they are read a second time then, as they
take as many times the memory of a map as there are taps."""


def _pair(value: Pair) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


def deform_conv2d(
    x: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
    deform_groups: int = 1,
) -> Tensor:
    """A convolution whose taps are moved, each by its own offset at each output position.

    A moved tap reads by bilinear interpolation; what lies outside the map is zero.

    Args:
        x: (B, C, H, W).
        offset: (B, deform_groups * kh * kw * 2, H', W') in positions of ``x``: for each tap (row by row) the shift
            down, then the shift to the right.
        weight: (C', C / groups, kh, kw).
        bias: (C',).
        mask: (B, deform_groups * kh * kw, H', W'): a factor for each tap.

    Returns:
        (B, C', H', W').

    Raises:
        ValueError: ``offset`` or ``mask`` does not fit.
    """
    rules = tuple(zip(_pair(stride), _pair(padding), _pair(dilation)))
    _check(x, offset, mask, (weight.shape[2], weight.shape[3]), rules, deform_groups)
    arguments = (x, offset, weight, mask, rules, groups, deform_groups)
    many = x.shape[1] * weight[0, 0].numel() * len(offset) * offset[0, 0].numel() > _KEPT
    if many and torch.is_grad_enabled():
        result = checkpoint(_convolved, *arguments, use_reentrant=False, preserve_rng_state=False)
    else:
        result = _convolved(*arguments)
    return result if bias is None else result + bias.view(1, -1, 1, 1)


def _convolved(
    x: Tensor,
    offset: Tensor,
    weight: Tensor,
    mask: Tensor | None,
    rules: tuple[tuple[int, int, int], ...],
    groups: int,
    deform_groups: int,
) -> Tensor:
    batch, channels, height, width = x.shape
    outputs, taps, (rows, columns) = len(weight), weight[0, 0].numel(), offset.shape[2:]
    exact = torch.promote_types(x.dtype, torch.float32)  # 16 bits hold no place to a tenth of a position
    down, right = (
        _places(kernel, count, *rule, x.device, exact)
        for kernel, count, rule in zip(weight.shape[2:], (rows, columns), rules)
    )
    moved = offset.to(exact).reshape(batch * deform_groups, *weight.shape[2:], 2, rows, columns)
    # The sides grow to powers of two, by zeros, which lie outside anyhow: dividing by the side, as grid_sample wants
    # it, is then exact, and so is a tap that is not moved.
    tall, wide = (2 ** math.ceil(math.log2(max(side, 2))) for side in (height, width))
    to_right = ((moved[:, :, :, 1] + right.view(-1, 1, columns)) * 2 + 1) / wide - 1
    to_down = ((moved[:, :, :, 0] + down.view(-1, 1, rows, 1)) * 2 + 1) / tall - 1
    read = F.grid_sample(
        F.pad(x.to(exact), (0, wide - width, 0, tall - height)).reshape(batch * deform_groups, -1, tall, wide),
        torch.stack([to_right, to_down], dim=-1).reshape(batch * deform_groups, taps * rows, columns, 2),
        mode="bilinear", padding_mode="zeros", align_corners=False,
    ).to(x.dtype)  # fmt: skip
    if mask is not None:
        read = read * mask.reshape(batch * deform_groups, 1, taps * rows, columns)
    read = read.reshape(batch, groups, (channels // groups) * taps, rows * columns)
    result = torch.matmul(weight.reshape(1, groups, outputs // groups, -1), read)
    return result.reshape(batch, outputs, rows, columns)


def _places(
    kernel: int, count: int, stride: int, padding: int, dilation: int, device: torch.device, dtype: torch.dtype
) -> Tensor:
    """Where taps lie on one axis before they are moved, (kernel, count)."""
    taps = torch.arange(kernel, dtype=dtype, device=device) * dilation - padding
    return taps.view(-1, 1) + torch.arange(count, dtype=dtype, device=device) * stride


def _check(
    x: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    kernel: tuple[int, int],
    rules: tuple[tuple[int, int, int], ...],
    deform_groups: int,
) -> None:
    size = tuple(
        (side + 2 * padding - dilation * (length - 1) - 1) // stride + 1
        for side, length, (stride, padding, dilation) in zip(x.shape[2:], kernel, rules)
    )
    numbers = deform_groups * kernel[0] * kernel[1]
    if offset.shape != (len(x), numbers * 2, *size):
        wanted = (len(x), numbers * 2, *size)
        raise ValueError(f"offset has shape {tuple(offset.shape)}; give {wanted}: two numbers for each tap")
    if mask is not None and mask.shape != (len(x), numbers, *size):
        wanted = (len(x), numbers, *size)
        raise ValueError(f"mask has shape {tuple(mask.shape)}; give {wanted}: a number for each tap")


class _Deformable(nn.Module):
    """What both kinds share."""

    one_operator = True  # a quantizer refuses it by its name, not by what it is made of
    keeps_init = True  # of its offsets

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair,
        padding: Pair,
        dilation: Pair,
        groups: int,
        deform_groups: int,
    ) -> None:
        super().__init__()
        for name, count in (("groups", groups), ("deform_groups", deform_groups)):
            if in_channels % count or (name == "groups" and out_channels % count):
                raise ValueError(f"{name}={count} does not divide the channels {in_channels} -> {out_channels}")
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.stride = _pair(kernel_size), _pair(stride)
        self.padding, self.dilation = _pair(padding), _pair(dilation)
        self.groups, self.deform_groups = groups, deform_groups
        self.transposed, self.output_padding = False, (0, 0)
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels // groups, *self.kernel_size))

    def _convolved(self, x: Tensor, offset: Tensor, mask: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        return deform_conv2d(
            x, offset, self.weight, bias, mask, self.stride, self.padding, self.dilation, self.groups,
            self.deform_groups,
        )  # fmt: skip

    def _offsets(self, numbers: int) -> nn.Conv2d:
        """The convolution that says the offsets: ``numbers`` a tap, all zero at first."""
        conv = nn.Conv2d(
            self.in_channels, self.deform_groups * numbers * math.prod(self.kernel_size), self.kernel_size,
            stride=self.stride, padding=self.padding, dilation=self.dilation,
        )  # fmt: skip
        nn.init.zeros_(conv.weight)
        nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
        return conv


@register(scope="mmdet")
class DeformConv2d(_Deformable):
    """Deformable convolution; the offsets come with the input.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups: of the convolution.
        deform_groups: groups of input channels that move together.
        bias: has to be False.
        im2col_step: without meaning here.
        deformable_groups: ``deform_groups`` as older configs call it.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Pair = 0,
        dilation: Pair = 1,
        groups: int = 1,
        deform_groups: int = 1,
        bias: bool = False,
        im2col_step: int = 32,
        deformable_groups: int | None = None,
    ) -> None:
        if bias:
            raise ValueError("bias=True: this layer has none; write bias=False, or take DCNv2")
        moved = deformable_groups or deform_groups
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, moved)
        nn.init.kaiming_uniform_(self.weight, nonlinearity="relu")

    def forward(self, x: Tensor, offset: Tensor) -> Tensor:
        """(B, C, H, W) and offsets, see :func:`deform_conv2d` -> (B, C', H', W')."""
        return self._convolved(x, offset)


@register("DCN", scope="mmdet")
class DeformConv2dPack(DeformConv2d):
    """:class:`DeformConv2d` that says its offsets itself: ``conv_offset``."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Pair = 0,
        dilation: Pair = 1,
        groups: int = 1,
        deform_groups: int = 1,
        bias: bool = False,
        im2col_step: int = 32,
        deformable_groups: int | None = None,
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, deform_groups, bias,
            im2col_step, deformable_groups,
        )  # fmt: skip
        self.conv_offset = self._offsets(2)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return self._convolved(x, self.conv_offset(x))


@register(scope="mmdet")
class ModulatedDeformConv2d(_Deformable):
    """Deformable convolution with a factor for each tap; offsets and factors come with the input.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias: of the convolution.
        deform_groups: groups of input channels that move together.
        deformable_groups: the same as older configs call it.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Pair = 0,
        dilation: Pair = 1,
        groups: int = 1,
        deform_groups: int = 1,
        bias: bool | str = True,
        deformable_groups: int | None = None,
    ) -> None:
        moved = deformable_groups or deform_groups
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, moved)
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        bound = 1 / math.sqrt(in_channels * math.prod(self.kernel_size))
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, x: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
        """(B, C, H, W), offsets and factors, see :func:`deform_conv2d` -> (B, C', H', W')."""
        return self._convolved(x, offset, mask, self.bias)


@register("DCNv2", scope="mmdet")
class ModulatedDeformConv2dPack(ModulatedDeformConv2d):
    """:class:`ModulatedDeformConv2d` that says its offsets and factors itself: ``conv_offset``, of which the last
    third, through a sigmoid, is the factors."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Pair = 0,
        dilation: Pair = 1,
        groups: int = 1,
        deform_groups: int = 1,
        bias: bool | str = True,
        deformable_groups: int | None = None,
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, deform_groups, bias,
            deformable_groups,
        )  # fmt: skip
        self.conv_offset = self._offsets(3)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        raw = self.conv_offset(x)
        offsets = raw.shape[1] // 3 * 2
        return self._convolved(x, raw[:, :offsets], torch.sigmoid(raw[:, offsets:]), self.bias)
