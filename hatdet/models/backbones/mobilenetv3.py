"""MobileNetV3 (Howard et al., arXiv 1905.02244, tables 1 and 2), with the parameter names of torchvision's weights."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from hatdet.models.backbones.freezing import StagedBackbone
from hatdet.models.feature_info import FeatureInfo
from hatdet.registry import register

_EPS, _MOMENTUM = 1e-3, 0.01  # of the published batch norms


class _Row(NamedTuple):
    kernel: int
    hidden: int
    channels: int
    squeeze: bool
    hard_swish: bool
    stride: int


# Rows of the tables, those of one size and one number of channels together: a stage.
_ARCHS: dict[str, tuple[tuple[_Row, ...], ...]] = {
    "large": (
        (_Row(3, 16, 16, False, False, 1),),
        (_Row(3, 64, 24, False, False, 2), _Row(3, 72, 24, False, False, 1)),
        (_Row(5, 72, 40, True, False, 2), *(_Row(5, 120, 40, True, False, 1),) * 2),
        (
            _Row(3, 240, 80, False, True, 2),
            _Row(3, 200, 80, False, True, 1),
            *(_Row(3, 184, 80, False, True, 1),) * 2,
        ),
        (_Row(3, 480, 112, True, True, 1), _Row(3, 672, 112, True, True, 1)),
        (_Row(5, 672, 160, True, True, 2), *(_Row(5, 960, 160, True, True, 1),) * 2),
    ),
    "small": (
        (_Row(3, 16, 16, True, False, 2),),
        (_Row(3, 72, 24, False, False, 2), _Row(3, 88, 24, False, False, 1)),
        (_Row(5, 96, 40, True, True, 2), *(_Row(5, 240, 40, True, True, 1),) * 2),
        (_Row(5, 120, 48, True, True, 1), _Row(5, 144, 48, True, True, 1)),
        (_Row(5, 288, 96, True, True, 2), *(_Row(5, 576, 96, True, True, 1),) * 2),
    ),
}


class SqueezeExcitation(nn.Module):
    """Each channel times a number in [0, 1] that a network of two layers finds from the means of all of them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inside = _divisible(channels // 4)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, inside, 1)
        self.relu = nn.ReLU(inplace=True)
        self.fc2 = nn.Conv2d(inside, channels, 1)
        self.gate = nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(self.fc2(self.relu(self.fc1(self.pool(x)))))  # type: ignore[no-any-return]


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise, squeeze-and-excitation, 1x1 projection without activation (figure 4)."""

    def __init__(self, in_channels: int, row: _Row, squeeze: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        if row.hidden != in_channels:
            layers.append(_conv(in_channels, row.hidden, 1, hard_swish=row.hard_swish))
        layers.append(
            _conv(row.hidden, row.hidden, row.kernel, row.stride, groups=row.hidden, hard_swish=row.hard_swish)
        )
        if row.squeeze:  # left out, its number stays taken: the names of the layers behind it are the published ones
            layers.append(SqueezeExcitation(row.hidden) if squeeze else nn.Identity())
        layers.append(_conv(row.hidden, row.channels, 1, hard_swish=None))
        self.block = nn.Sequential(*layers)
        self.add_identity = row.stride == 1 and in_channels == row.channels

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(x) if self.add_identity else self.block(x)


def _conv(
    in_channels: int, channels: int, kernel: int, stride: int = 1, groups: int = 1, hard_swish: bool | None = True
) -> nn.Sequential:
    """Convolution, batch norm, hard swish (False: ReLU; None: no activation)."""
    layers: list[nn.Module] = [
        nn.Conv2d(in_channels, channels, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(channels, eps=_EPS, momentum=_MOMENTUM),
    ]
    if hard_swish is not None:
        layers.append(nn.Hardswish(inplace=True) if hard_swish else nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def _divisible(channels: float, divisor: int = 8) -> int:
    """The multiple of ``divisor`` nearest to ``channels``, at least 90 % of it."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


@register
class MobileNetV3(StagedBackbone):
    """(B, in_channels, H, W) -> tuple of the maps of ``out_indices``.

    Stages of ``large``: 16, 24, 40, 80, 112, 160 channels at strides 2, 4, 8, 16, 16, 32; of ``small``: 16, 24, 40, 48,
    96 at strides 4, 8, 16, 16, 32. One more is the last 1x1 convolution (960, 576). Parameters are named as in
    torchvision's files (``features.4.block.0.0``).

    Args:
        arch: ``large`` or ``small``.
        out_indices: stages returned; None: the last ones of strides 8, 16 and 32.
        squeeze_excitation: False leaves it out everywhere: NPUs that take no mean of a whole map run what is left.
        frozen_stages: -1: none; 0: the stem; n: the stem and stages 0 to n - 1 keep weights and statistics.
        norm_eval: batch norms keep the statistics they were loaded with, in training too.
        in_channels: of the images.

    Raises:
        ValueError: an unknown architecture, or a stage that does not exist.
    """

    def __init__(
        self,
        *,
        arch: str = "large",
        out_indices: Sequence[int] | None = None,
        squeeze_excitation: bool = True,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        if arch not in _ARCHS:
            raise ValueError(f"unknown arch {arch!r}; MobileNetV3 has 'large' and 'small'")
        rows = _ARCHS[arch]
        if out_indices is None:
            out_indices = (2, 4, 5) if arch == "large" else (1, 3, 4)
        last = len(rows)
        if not out_indices or any(not 0 <= i <= last for i in out_indices) or not -1 <= frozen_stages <= last + 1:
            raise ValueError(
                f"MobileNetV3 {arch} has the stages 0 to {last}, got out_indices={list(out_indices)}, "
                f"frozen_stages={frozen_stages}"
            )
        features: list[nn.Module] = [_conv(in_channels, 16, 3, stride=2)]
        channels, stride, ends, widths, strides = 16, 2, [], [], []
        for stage in rows[: max(out_indices) + 1]:
            for row in stage:
                features.append(InvertedResidual(channels, row, squeeze_excitation))
                channels, stride = row.channels, stride * row.stride
            ends.append(len(features))
            widths.append(channels)
            strides.append(stride)
        if max(out_indices) == last:
            features.append(_conv(channels, 6 * channels, 1))
            ends, widths, strides = [*ends, len(features)], [*widths, 6 * channels], [*strides, stride]
        self.features = nn.Sequential(*features)
        self._ends = [ends[i] - 1 for i in out_indices]
        self.arch, self.in_channels, self.out_indices = arch, in_channels, tuple(out_indices)
        self.feature_info = FeatureInfo(
            channels=tuple(widths[i] for i in out_indices), strides=tuple(strides[i] for i in out_indices)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        stages = [
            ("features.0",),
            *(tuple(f"features.{i}" for i in range(a, b)) for a, b in itertools.pairwise((1, *ends))),
        ]
        self.set_stages(stages, frozen_stages + 1, norm_eval)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        maps = []
        for layer in self.features:
            x = layer(x)
            maps.append(x)
        return tuple(maps[i] for i in self._ends)
