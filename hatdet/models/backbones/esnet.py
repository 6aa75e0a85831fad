"""Enhanced ShuffleNet, the backbone of PicoDet's first release (arXiv 2111.00902, section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hatdet.models.backbones.freezing import StagedBackbone
from hatdet.models.feature_info import FeatureInfo
from hatdet.models.layers.attention import SqueezeExcitation
from hatdet.models.layers.channels import divisible
from hatdet.models.layers.conv import ConvModule
from hatdet.models.layers.shuffle import Shuffled
from hatdet.registry import register

_BLOCKS = (3, 7, 3)
_CHANNELS = (128, 256, 512)
_STEM = 24


def _attention(channels: int, wanted: bool) -> nn.Module:
    return SqueezeExcitation(channels) if wanted else nn.Identity()


class ESBlock(nn.Module):
    """What becomes of the half of a map's channels that does not pass a block (figure 3 b of the paper): ``conv_pw``,
    what ``conv_dw`` makes of that, both through ``se`` and ``conv_linear``. (B, half, H, W), whose shape stays.

    Args:
        half: of the map's channels.
        middle: of what ``se`` sees, even.
        channel_attention: there is an ``se``.
        activation: class name of ``torch.nn``; ``conv_dw`` has none.
    """

    def __init__(self, half: int, middle: int, channel_attention: bool, activation: str) -> None:
        super().__init__()
        self.conv_pw = ConvModule(half, middle // 2, 1, activation=activation)
        self.conv_dw = ConvModule(middle // 2, middle // 2, 3, groups=middle // 2, activation=None)
        self.se = _attention(middle, channel_attention)
        self.conv_linear = ConvModule(middle, half, 1, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        first = self.conv_pw(x)
        both = torch.cat((first, self.conv_dw(first)), dim=1)
        return self.conv_linear(self.se(both))


class ESDownBlock(nn.Module):
    """Two branches of stride 2, ``conv_dw_1``, ``conv_linear_1`` and ``conv_pw_2``, ``conv_dw_2``, ``se``,
    ``conv_linear_2``, side by side through ``conv_dw_mv1`` and ``conv_pw_mv1`` (figure 3 a of the paper).

    (B, in_channels, H, W) -> (B, out_channels, ceil(H / 2), ceil(W / 2)).

    Args:
        in_channels, out_channels: of the maps; the second even.
        middle: twice the channels of the second branch, even.
        channel_attention: there is an ``se``.
        activation: class name of ``torch.nn``; ``conv_dw_1`` and ``conv_dw_2`` have none.
    """

    def __init__(
        self, in_channels: int, middle: int, out_channels: int, channel_attention: bool, activation: str
    ) -> None:
        super().__init__()
        half, narrow = out_channels // 2, middle // 2
        self.conv_dw_1 = ConvModule(in_channels, in_channels, 3, stride=2, groups=in_channels, activation=None)
        self.conv_linear_1 = ConvModule(in_channels, half, 1, activation=activation)
        self.conv_pw_2 = ConvModule(in_channels, narrow, 1, activation=activation)
        self.conv_dw_2 = ConvModule(narrow, narrow, 3, stride=2, groups=narrow, activation=None)
        self.se = _attention(narrow, channel_attention)
        self.conv_linear_2 = ConvModule(narrow, half, 1, activation=activation)
        self.conv_dw_mv1 = ConvModule(out_channels, out_channels, 3, groups=out_channels, activation=activation)
        self.conv_pw_mv1 = ConvModule(out_channels, out_channels, 1, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        first = self.conv_linear_1(self.conv_dw_1(x))
        second = self.conv_linear_2(self.se(self.conv_dw_2(self.conv_pw_2(x))))
        return self.conv_pw_mv1(self.conv_dw_mv1(torch.cat((first, second), dim=1)))


@register
class ESNet(StagedBackbone):
    """(B, in_channels, H, W) -> tuple of the maps of ``out_indices``.

    Of the blocks from the second on half of the channels pass, and then the halves' channels alternate; none is moved
    for it (:mod:`hatdet.models.layers.shuffle`).

    Stages 2 to 4 have 128, 256, 512 channels (times ``widen_factor``) at strides 8, 16, 32 and 3, 7, 3 blocks. Blocks
    and parameters are named as in PaddleDetection's files, without leading underscores (``2_1.conv_pw_2``,
    ``3_2.se.conv1``).

    Args:
        widen_factor: multiplies the channels of the stages; they stay multiples of 16.
        channel_ratio: of each of the 13 blocks: its inner channels, as a share of its stage's (searched for each
            published size, table 1 of the paper).
        out_indices: stages returned.
        channel_attention: squeeze-and-excitation in the blocks.
        activation: class name of ``torch.nn``.
        frozen_stages: -1: none; 0: the stem; n: the stem and the first n stages keep weights and statistics.
        norm_eval: batch norms keep the statistics they were loaded with, in training too.
        in_channels: of the images.

    Raises:
        ValueError: a stage that does not exist, or another number of ratios than blocks.
    """

    def __init__(
        self,
        *,
        widen_factor: float = 1.0,
        channel_ratio: Sequence[float] = (1.0,) * sum(_BLOCKS),
        out_indices: Sequence[int] = (2, 3, 4),
        channel_attention: bool = True,
        activation: str = "Hardswish",
        frozen_stages: int = -1,
        norm_eval: bool = False,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        if not out_indices or any(not 2 <= i <= 4 for i in out_indices) or not -1 <= frozen_stages <= 3:
            raise ValueError(
                f"ESNet has the stages 2 to 4, got out_indices={list(out_indices)}, frozen_stages={frozen_stages} "
                "(at most 3: all)"
            )
        if len(channel_ratio) != sum(_BLOCKS):
            raise ValueError(f"channel_ratio needs a number for each of the 13 blocks, got {len(channel_ratio)}")
        self.conv1 = ConvModule(in_channels, _STEM, 3, stride=2, activation=activation)
        self.max_pool = nn.MaxPool2d(3, stride=2, padding=1)
        given, ratios, widths = _STEM, list(channel_ratio), []
        stages: list[list[str]] = []
        for stage, (blocks, base) in enumerate(zip(_BLOCKS, _CHANNELS, strict=True), start=2):
            if stage > max(out_indices):
                break
            width = divisible(base * widen_factor, 16)
            names = [f"{stage}_{i + 1}" for i in range(blocks)]
            for name in names:
                middle = divisible(int(width * ratios.pop(0)))
                block: nn.Module = (
                    ESDownBlock(given, middle, width, channel_attention, activation)
                    if name == names[0]
                    else ESBlock(width // 2, middle, channel_attention, activation)
                )
                self.add_module(name, block)
            self.add_module(f"shuffled{stage}", Shuffled((width,), width // 2, blocks))
            stages.append(names)
            widths.append(width)
            given = width
        self.feature_info = FeatureInfo(
            channels=tuple(widths[i - 2] for i in out_indices), strides=tuple(2 ** (i + 1) for i in out_indices)
        )
        self.in_channels, self.out_indices = in_channels, tuple(out_indices)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
        self.set_stages([("conv1",), *stages], frozen_stages + 1, norm_eval)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = self.max_pool(self.conv1(x))
        maps = []
        for stage, names in enumerate(self.stages[1:], start=2):
            first, *others = (self.get_submodule(name) for name in names)
            x = self.get_submodule(f"shuffled{stage}")([first(x)], others)
            maps.append(x)
        return tuple(maps[i - 2] for i in self.out_indices)
