"""MobileNetV4-Conv-Small (Qin et al., arXiv 2404.10518, table 11), with the parameter names of timm's weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from hatdet.models.backbones.freezing import StagedBackbone
from hatdet.models.feature_info import FeatureInfo
from hatdet.registry import register


@dataclass(frozen=True)
class _Conv:
    kernel: int
    stride: int
    channels: int


@dataclass(frozen=True)
class _UIB:
    """``start`` and ``middle``: sides of the depthwise kernels before and after the expansion; 0: none."""

    start: int
    middle: int
    stride: int
    expansion: int
    channels: int


_SMALL: tuple[tuple[_Conv | _UIB, ...], ...] = (
    (_Conv(3, 2, 32), _Conv(1, 1, 32)),
    (_Conv(3, 2, 96), _Conv(1, 1, 64)),
    (_UIB(5, 5, 2, 3, 96), *(_UIB(0, 3, 1, 2, 96),) * 4, _UIB(3, 0, 1, 4, 96)),
    (
        _UIB(3, 3, 2, 6, 128),
        _UIB(5, 5, 1, 4, 128),
        _UIB(0, 5, 1, 4, 128),
        _UIB(0, 5, 1, 3, 128),
        *(_UIB(0, 3, 1, 4, 128),) * 2,
    ),
    (_Conv(1, 1, 960),),
)
_STRIDES = (2, 4, 8, 16, 32)


class _ConvNormAct(nn.Module):
    def __init__(
        self, in_channels: int, channels: int, kernel: int, stride: int = 1, groups: int = 1, act: bool = True
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, channels, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False
        )
        self.bn = nn.BatchNorm2d(channels)
        self.act = nn.ReLU(inplace=True) if act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))  # type: ignore[no-any-return]


class _PlainConv(nn.Module):
    """A convolution as a block: ``conv``, ``bn1``."""

    def __init__(self, in_channels: int, spec: _Conv) -> None:
        super().__init__()
        padding = spec.kernel // 2
        self.conv = nn.Conv2d(in_channels, spec.channels, spec.kernel, stride=spec.stride, padding=padding, bias=False)
        self.bn1 = nn.BatchNorm2d(spec.channels)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn1(self.conv(x)))  # type: ignore[no-any-return]


class UniversalInvertedBottleneck(nn.Module):
    """Depthwise, 1x1 expansion, depthwise, 1x1 projection; either depthwise may be absent (paper, figure 4)."""

    def __init__(self, in_channels: int, spec: _UIB) -> None:
        super().__init__()
        hidden = in_channels * spec.expansion
        start_stride = spec.stride if not spec.middle else 1
        layers: dict[str, nn.Module] = {}
        if spec.start:
            layers["dw_start"] = _ConvNormAct(
                in_channels, in_channels, spec.start, start_stride, groups=in_channels, act=False
            )
        layers["pw_exp"] = _ConvNormAct(in_channels, hidden, 1)
        if spec.middle:
            layers["dw_mid"] = _ConvNormAct(hidden, hidden, spec.middle, spec.stride, groups=hidden)
        layers["pw_proj"] = _ConvNormAct(hidden, spec.channels, 1, act=False)
        for name, layer in layers.items():
            self.add_module(name, layer)
        self._order = tuple(layers)
        self.add_identity = spec.stride == 1 and in_channels == spec.channels

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for name in self._order:
            y = self.get_submodule(name)(y)
        return x + y if self.add_identity else y


@register
class MobileNetV4(StagedBackbone):
    """(B, in_channels, H, W) -> tuple of the maps of ``out_indices``: 32, 32, 64, 96, 960 channels at strides 2 to 32.

    Parameters are named as in timm's ``mobilenetv4_conv_small`` (``conv_stem, bn1, blocks.2.0.dw_start.conv``).

    Args:
        arch: only ``conv_small``.
        out_indices: maps returned.
        frozen_stages: -1: none; 0: the stem; n: the stem and the first n stages keep weights and statistics.
        norm_eval: batch norms keep the statistics they were loaded with, in training too.
        in_channels: of the images.

    Raises:
        ValueError: an unknown architecture, or a map that does not exist.
    """

    def __init__(
        self,
        *,
        arch: str = "conv_small",
        out_indices: Sequence[int] = (2, 3, 4),
        frozen_stages: int = -1,
        norm_eval: bool = False,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        if arch != "conv_small":
            raise ValueError(f"unknown arch {arch!r}; MobileNetV4 has 'conv_small'")
        if not out_indices or any(not 0 <= i <= 4 for i in out_indices) or not -1 <= frozen_stages <= len(_SMALL):
            raise ValueError(
                f"MobileNetV4 has the maps 0 to 4, got out_indices={list(out_indices)}, frozen_stages={frozen_stages}"
            )
        self.in_channels = in_channels
        self.conv_stem = nn.Conv2d(in_channels, 32, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        self.act = nn.ReLU(inplace=True)
        self.blocks = nn.Sequential()
        channels, ends = 32, [32]
        for stage in _SMALL:
            blocks = nn.Sequential()
            for spec in stage:
                make = _PlainConv if isinstance(spec, _Conv) else UniversalInvertedBottleneck
                blocks.append(make(channels, spec))  # type: ignore[arg-type]
                channels = spec.channels
            self.blocks.append(blocks)
            ends.append(channels)
        # The map at stride 32 is the last: the 1x1 convolution to 960 belongs to it.
        widths = (*ends[:4], ends[5])
        self.out_indices = tuple(out_indices)
        self.feature_info = FeatureInfo(
            channels=tuple(widths[i] for i in out_indices), strides=tuple(_STRIDES[i] for i in out_indices)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        stages = [("conv_stem", "bn1"), *((f"blocks.{i}",) for i in range(len(_SMALL)))]
        self.set_stages(stages, frozen_stages + 1, norm_eval)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = self.act(self.bn1(self.conv_stem(x)))
        maps = [x]
        for stage in self.blocks:
            x = stage(x)
            maps.append(x)
        maps[4:] = [maps[5]]  # strides 2, 4, 8, 16, 32
        return tuple(maps[i] for i in self.out_indices)
