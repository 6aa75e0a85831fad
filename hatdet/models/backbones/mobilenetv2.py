"""MobileNetV2 (Sandler et al., arXiv 1801.04381), with the parameter names of torchvision's weights."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import Tensor, nn

from hatdet.models.backbones.freezing import StagedBackbone
from hatdet.models.feature_info import FeatureInfo
from hatdet.models.layers.channels import divisible
from hatdet.registry import register

# Table 2 of the paper: expansion, channels, blocks, stride.
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
_STRIDES = (2, 4, 8, 16, 16, 32, 32)


class Expansion(nn.Module):
    """The 1x1 expansion alone of an :class:`InvertedResidual`, under the names that it has there.

    No list of layers: those of the block that follow in a file of weights are not missing here.
    """

    def __init__(self, in_channels: int, expansion: int) -> None:
        super().__init__()
        self.conv = nn.ModuleDict({"0": _conv(in_channels, in_channels * expansion, 1)})

    def forward(self, x: Tensor) -> Tensor:
        return self.conv["0"](x)  # type: ignore[no-any-return]


class InvertedResidual(nn.Module):
    """1x1 expansion, 3x3 depthwise, 1x1 projection without activation; the identity where shapes agree (figure 3)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers.append(_conv(in_channels, hidden, 1))
        layers += [
            _conv(hidden, hidden, 3, stride=stride, groups=hidden),
            nn.Conv2d(hidden, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        ]
        self.conv = nn.Sequential(*layers)
        self.add_identity = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.add_identity else self.conv(x)


def _conv(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(
            in_channels, out_channels, kernel_size, stride=stride, padding=kernel_size // 2, groups=groups, bias=False
        ),
        nn.BatchNorm2d(out_channels),
        nn.ReLU6(inplace=True),
    )


@register
class MobileNetV2(StagedBackbone):
    """(B, in_channels, H, W) -> tuple of the maps of ``out_indices``.

    Stages 0 to 6 have 16, 24, 32, 64, 96, 160, 320 channels (times ``widen_factor``) at strides 2, 4, 8, 16, 16, 32,
    32; stage 7 is the last 1x1 convolution (1280). Parameters are named as in torchvision's files (``features.0.0``).

    Args:
        widen_factor: multiplies the channels; they stay multiples of 8.
        out_indices: stages returned.
        frozen_stages: -1: none; 0: the stem; n: the stem and stages 0 to n - 1 keep weights and statistics.
        norm_eval: batch norms keep the statistics they were loaded with, in training too.
        in_channels: of the images.
        expand_last: after the last stage of ``out_indices`` comes the 1x1 expansion (with ReLU6) of the block behind
            it, and its map stands in the place of that stage's: six times the channels at the same stride.
            ``out_indices=(2,)`` with it is what Keras calls ``block_6_expand_relu``. To freeze, it is one stage more.

    Raises:
        ValueError: a stage that does not exist, or one behind which no expansion comes.
    """

    def __init__(
        self,
        *,
        widen_factor: float = 1.0,
        out_indices: Sequence[int] = (2, 4, 6),
        frozen_stages: int = -1,
        norm_eval: bool = False,
        in_channels: int = 3,
        expand_last: bool = False,
    ) -> None:
        super().__init__()
        if not out_indices or any(not 0 <= i <= 7 for i in out_indices) or not -1 <= frozen_stages <= 8:
            raise ValueError(
                f"MobileNetV2 has the stages 0 to 7, got out_indices={list(out_indices)}, frozen_stages={frozen_stages}"
            )
        if expand_last and max(out_indices) > 5:
            raise ValueError(
                f"behind stage {max(out_indices)} of MobileNetV2 comes no expansion; with expand_last the last of "
                "out_indices is 0 to 5"
            )
        channels = divisible(32 * widen_factor)
        features: list[nn.Module] = [_conv(in_channels, channels, 3, stride=2)]
        ends, widths = [], []
        for expansion, base, blocks, stride in _STAGES:
            width = divisible(base * widen_factor)
            for j in range(blocks):
                features.append(InvertedResidual(channels, width, stride if j == 0 else 1, expansion))
                channels = width
            ends.append(len(features) - 1)
            widths.append(width)
        if max(out_indices) == 7:
            widths.append(max(1280, divisible(1280 * widen_factor)))
            features.append(_conv(channels, widths[-1], 1))
            ends.append(len(features) - 1)
        last = max(out_indices)
        ends = ends[: last + 1]
        kept = features[: ends[last] + 1]
        outs = list(ends)
        if expand_last:
            expansion = _STAGES[last + 1][0]
            kept.append(Expansion(widths[last], expansion))
            outs[last], widths[last] = len(kept) - 1, expansion * widths[last]
            ends.append(outs[last])
        self.features = nn.Sequential(*kept)
        self._ends = [outs[i] for i in out_indices]
        self.feature_info = FeatureInfo(
            channels=tuple(widths[i] for i in out_indices), strides=tuple((*_STRIDES, 32)[i] for i in out_indices)
        )
        self.in_channels, self.out_indices = in_channels, tuple(out_indices)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
        stages = [
            ("features.0",),
            *(tuple(f"features.{j}" for j in range(a + 1, b + 1)) for a, b in itertools.pairwise((0, *ends))),
        ]
        self.set_stages(stages, frozen_stages + 1, norm_eval)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        maps = []
        for layer in self.features:
            x = layer(x)
            maps.append(x)
        return tuple(maps[i] for i in self._ends)
