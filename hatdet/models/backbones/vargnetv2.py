"""VarGNetV2: a backbone of group convolutions with a constant number of channels a group (arXiv 1907.05653)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from hatdet.models.feature_info import FeatureInfo
from hatdet.registry import register

_BLOCKS = (1, 3, 7, 4)
_CHANNELS = (32, 64, 128, 256)
_STEM_CHANNELS = 32
_TOP_CHANNELS = 1024


class VargUnit(nn.Sequential):
    """3x3 group convolution to ``in_channels * factor``, BN, ReLU, 1x1 convolution to ``out_channels``, BN.

    (B, in_channels, H, W) -> (B, out_channels, ceil(H / stride), ceil(W / stride)). Both convolutions have a bias.

    Args:
        in_channels: a multiple of ``group_base``.
        group_base: input channels of a group.
        factor: widening between the convolutions.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: int = 1,
        factor: int = 2,
        group_base: int = 8,
        bn_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        width, bn = in_channels * factor, dict(bn_kwargs or {})
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride=stride, padding=1, groups=in_channels // group_base)
        self.bn1 = nn.BatchNorm2d(width, **bn)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, out_channels, 1)
        self.bn2 = nn.BatchNorm2d(out_channels, **bn)


class VargBlock(nn.Module):
    """Two units with a ReLU between, added to the input, ReLU.

    Args:
        stride: of the first unit and the shortcut.
        project: the shortcut is a unit; it must be one where stride or channels change.
        merge: the first unit has a second one beside it, and both are added.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: int = 1,
        project: bool = False,
        merge: bool = False,
        factor: int = 2,
        group_base: int = 8,
        bn_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()

        def first(inputs: int, step: int) -> VargUnit:
            return VargUnit(
                inputs, out_channels, stride=step, factor=factor, group_base=group_base, bn_kwargs=bn_kwargs
            )

        self.unit1 = first(in_channels, stride)
        self.merge = first(in_channels, stride) if merge else None
        self.relu1 = nn.ReLU(inplace=True)
        self.unit2 = first(out_channels, 1)
        self.shortcut = first(in_channels, stride) if project else None
        self.relu2 = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.unit1(x)
        if self.merge is not None:
            y = y + self.merge(x)
        y = self.unit2(self.relu1(y))
        return self.relu2(y + (x if self.shortcut is None else self.shortcut(x)))  # type: ignore[no-any-return]


@register
class VargNetV2(nn.Module):
    """Stem and four stages of 1, 3, 7, 4 blocks; the channels of a group are the same everywhere.

    (B, in_channels, H, W) -> maps at strides 2, 4, 8, 16, 32 with 32, 32, 64, 128, 256 channels (times ``alpha``), see
    ``feature_info``; with ``include_top`` class scores (B, num_classes). The stem has no activation. The blocks of
    the first stage do not widen inside; the first block of each later stage has two parallel first units.

    Args:
        num_classes: of the classifier; unused without ``include_top``.
        bn_kwargs: arguments of every ``BatchNorm2d``.
        include_top: append the classifier: 1x1 convolution to 1024, BN, ReLU, average pool, 1x1 convolution.
        alpha: multiplies the channels; the products must be multiples of ``group_base``.
        group_base: channels of a group.
        factor: widening inside a unit, from the second stage on.
        in_channels: of the images.
        out_indices: maps returned, 0 (the stem) to 4; None: all. Unused with ``include_top``.

    Raises:
        ValueError: a number of channels that is no multiple of ``group_base``, or no class to predict.
    """

    def __init__(
        self,
        *,
        num_classes: int = 1000,
        bn_kwargs: Mapping[str, Any] | None = None,
        include_top: bool = True,
        alpha: float = 1.0,
        group_base: int = 8,
        factor: int = 2,
        in_channels: int = 3,
        out_indices: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        stem, *channels = (int(c * alpha) for c in (_STEM_CHANNELS, *_CHANNELS))
        odd = [c for c in (stem, *channels) if c < 1 or c % group_base]
        if odd or group_base < 1:
            raise ValueError(
                f"alpha={alpha} gives stages of {[stem, *channels]} channels, which are not all multiples of "
                f"group_base={group_base}"
            )
        if include_top and num_classes < 1:
            raise ValueError(f"include_top needs at least one class, got num_classes={num_classes}")
        bn = dict(bn_kwargs or {})
        self.stem = nn.Sequential()
        self.stem.add_module("conv", nn.Conv2d(in_channels, stem, 3, stride=2, padding=1))
        self.stem.add_module("bn", nn.BatchNorm2d(stem, **bn))
        inputs = stem
        for number, (blocks, width) in enumerate(zip(_BLOCKS, channels, strict=True), start=1):
            stage = nn.Sequential(
                *(
                    VargBlock(
                        width if later else inputs,
                        width,
                        stride=1 if later else 2,
                        project=not later,
                        merge=not later and number > 1,
                        factor=1 if number == 1 else factor,
                        group_base=group_base,
                        bn_kwargs=bn,
                    )
                    for later in range(blocks)
                )
            )
            self.add_module(f"stage{number}", stage)
            inputs = width
        self.top: nn.Sequential | None = None
        if include_top:
            self.top = nn.Sequential(
                nn.Conv2d(inputs, _TOP_CHANNELS, 1),
                nn.BatchNorm2d(_TOP_CHANNELS, **bn),
                nn.ReLU(inplace=True),
                nn.AdaptiveAvgPool2d(1),
                nn.Conv2d(_TOP_CHANNELS, num_classes, 1),
                nn.Flatten(),
            )
        self.num_classes = num_classes
        self.in_channels = in_channels
        maps = len(channels) + 1
        self.out_indices = tuple(range(maps) if out_indices is None else out_indices)
        if not self.out_indices or any(not 0 <= i < maps for i in self.out_indices):
            raise ValueError(f"VargNetV2 has the maps 0 to {maps - 1}, got out_indices={list(self.out_indices)}")
        self.feature_info = FeatureInfo(
            channels=tuple((stem, *channels)[i] for i in self.out_indices),
            strides=tuple(2 ** (i + 1) for i in self.out_indices),
        )
        _init_weights(self)

    def forward(self, x: Tensor) -> tuple[Tensor, ...] | Tensor:
        maps = [self.stem(x)]
        for number in range(1, len(_BLOCKS) + 1):
            maps.append(self.get_submodule(f"stage{number}")(maps[-1]))
        if self.top is not None:
            return self.top(maps[-1])  # type: ignore[no-any-return]
        return tuple(maps[i] for i in self.out_indices)


def _init_weights(module: nn.Module) -> None:
    """He's normal initialization by fan-out (arXiv 1502.01852), zero biases."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
            if part.bias is not None:
                nn.init.zeros_(part.bias)
