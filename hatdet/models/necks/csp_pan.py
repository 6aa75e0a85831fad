"""PicoDet's path aggregation networks: every map as wide as the others, 5x5 depthwise convolutions, one map more."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hatdet.models.fitting import doubling, told
from hatdet.models.layers.conv import ConvModule, DepthwiseSeparableConvModule, conv_class
from hatdet.registry import register


class CSPBlock(nn.Module):
    """``conv1``, 1x1, and ``conv2``, ``kernel_size`` wide: the shape (B, channels, H, W) stays."""

    def __init__(self, channels: int, kernel_size: int, use_depthwise: bool, activation: str) -> None:
        super().__init__()
        self.conv1 = ConvModule(channels, channels, 1, activation=activation)
        self.conv2 = conv_class(use_depthwise)(channels, channels, kernel_size, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x))  # type: ignore[no-any-return]


class CSPLayer(nn.Module):
    """Half of the channels through ``main_conv`` and ``blocks``, half through ``short_conv``, joined by
    ``final_conv``: (B, in_channels, H, W) -> (B, out_channels, H, W)."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, blocks: int, use_depthwise: bool, activation: str
    ) -> None:
        super().__init__()
        half = out_channels // 2
        self.main_conv = ConvModule(in_channels, half, 1, activation=activation)
        self.short_conv = ConvModule(in_channels, half, 1, activation=activation)
        self.final_conv = ConvModule(2 * half, out_channels, 1, activation=activation)
        self.blocks = nn.Sequential(*[CSPBlock(half, kernel_size, use_depthwise, activation) for _ in range(blocks)])

    def forward(self, x: Tensor) -> Tensor:
        short = self.short_conv(x)
        return self.final_conv(torch.cat((self.blocks(self.main_conv(x)), short), dim=1))  # type: ignore[no-any-return]


class _PicoPAN(nn.Module):
    """Both necks. ``conv_t.i`` makes map i ``out_channels`` wide; ``top_down_blocks`` (coarsest first) mix (upsampled,
    finer map), ``bottom_up_blocks`` (``downsamples``, coarser map); a last level, of half the size, is the sum of
    ``first_top_conv`` of the coarsest map before mixing and ``second_top_conv`` of the coarsest one after it.

    Tuple of (B, in_channels[i], H_i, W_i), each half the size of the one before -> ``num_outs`` maps with
    ``out_channels`` channels.
    """

    def __init__(
        self, in_channels: Sequence[int] | None, out_channels: int, kernel_size: int, num_outs: int | None,
        use_depthwise: bool, activation: str,
    ) -> None:  # fmt: skip
        super().__init__()
        in_channels = told(in_channels, "in_channels")
        count = len(in_channels)
        if count < 2:
            raise ValueError(f"in_channels needs at least two maps to mix, got {list(in_channels)}")
        self.num_outs = count + 1 if num_outs is None else num_outs
        if self.num_outs not in (count, count + 1):
            raise ValueError(f"num_outs={num_outs}; {count} maps give {count} or, with a coarser one, {count + 1}")
        self.in_channels, self.out_channels = tuple(in_channels), out_channels
        self.kernel_size, self.use_depthwise, self.activation = kernel_size, use_depthwise, activation
        self.conv_t = nn.ModuleList(ConvModule(c, out_channels, 1, activation=activation) for c in in_channels)
        if self.num_outs > count:
            self.first_top_conv, self.second_top_conv = self._half(), self._half()
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")
        self.top_down_blocks = nn.ModuleList(self._mix() for _ in range(count - 1))
        self.downsamples = nn.ModuleList(self._half() for _ in range(count - 1))
        self.bottom_up_blocks = nn.ModuleList(self._mix() for _ in range(count - 1))

    def _half(self) -> nn.Module:
        """A convolution of stride 2."""
        conv = conv_class(self.use_depthwise)
        return conv(self.out_channels, self.out_channels, self.kernel_size, stride=2, activation=self.activation)

    @abstractmethod
    def _mix(self) -> nn.Module:
        """(B, 2 * out_channels, H, W) -> (B, out_channels, H, W)."""

    def output_strides(self, in_strides: Sequence[int]) -> tuple[int, ...]:
        """Strides of the maps returned for maps of ``in_strides``.

        Raises:
            MisfitError: a map that is not half the size of the one before.
        """
        strides = doubling(in_strides)
        return (*strides, *(2 * strides[-1],) * (self.num_outs - len(strides)))

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        maps = [conv(x) for conv, x in zip(self.conv_t, feats, strict=True)]
        inner = [maps[-1]]  # coarsest first
        for block, low in zip(self.top_down_blocks, maps[-2::-1], strict=True):
            inner.append(block(torch.cat((self.upsample(inner[-1]), low), dim=1)))
        outs = [inner[-1]]
        for down, block, high in zip(self.downsamples, self.bottom_up_blocks, inner[-2::-1], strict=True):
            outs.append(block(torch.cat((down(outs[-1]), high), dim=1)))
        if self.num_outs > len(maps):
            outs.append(self.first_top_conv(maps[-1]) + self.second_top_conv(outs[-1]))
        return tuple(outs)


@register
class CSPPAN(_PicoPAN):
    """CSP-PAN (arXiv 2111.00902, section 3.2): maps are mixed by cross-stage-partial layers.

    Args:
        in_channels: channels of the maps, finest first. In a detector's config it may be left out.
        out_channels: channels of each returned map, even.
        kernel_size: of the depthwise convolutions, and of those of stride 2.
        num_outs: maps returned; one more than come in by default, of half the size of the coarsest.
        num_csp_blocks: blocks of each layer.
        use_depthwise: depthwise separable convolutions; False: dense ones.
        activation: class name of ``torch.nn``.

    Raises:
        ValueError: fewer than two maps, or another number of outputs.
    """

    def __init__(
        self,
        *,
        in_channels: Sequence[int] | None = None,
        out_channels: int,
        kernel_size: int = 5,
        num_outs: int | None = None,
        num_csp_blocks: int = 1,
        use_depthwise: bool = True,
        activation: str = "Hardswish",
    ) -> None:
        self.num_csp_blocks = num_csp_blocks
        super().__init__(in_channels, out_channels, kernel_size, num_outs, use_depthwise, activation)

    def _mix(self) -> nn.Module:
        wide, blocks = self.out_channels, self.num_csp_blocks
        return CSPLayer(2 * wide, wide, self.kernel_size, blocks, self.use_depthwise, self.activation)


@register
class LCPAN(_PicoPAN):
    """The neck of PicoDet's second release: as :class:`CSPPAN`, but maps are mixed by two depthwise separable
    convolutions in a row, the first as wide as its input.

    Args:
        others: as :class:`CSPPAN`.

    Raises:
        ValueError: fewer than two maps, or another number of outputs.
    """

    def __init__(
        self,
        *,
        in_channels: Sequence[int] | None = None,
        out_channels: int,
        kernel_size: int = 5,
        num_outs: int | None = None,
        activation: str = "Hardswish",
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, num_outs, True, activation)

    def _mix(self) -> nn.Module:
        both, kernel, act = 2 * self.out_channels, self.kernel_size, self.activation
        return nn.Sequential(
            DepthwiseSeparableConvModule(both, both, kernel, activation=act),
            DepthwiseSeparableConvModule(both, self.out_channels, kernel, activation=act),
        )
