"""ShuffleNetV2 (Ma et al., arXiv 1807.11164), with the parameter names of torchvision's weights; its shuffles move
nothing (:mod:`hatdet.models.layers.shuffle`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from hatdet.models.backbones.freezing import StagedBackbone
from hatdet.models.feature_info import FeatureInfo
from hatdet.models.layers.activations import build_activation
from hatdet.models.layers.shuffle import Shuffled
from hatdet.registry import register

# Table 5 of the paper: channels of the stem and of stages 2 to 4.
_CHANNELS = {
    "0.5x": (24, 48, 96, 192),
    "1.0x": (24, 116, 232, 464),
    "1.5x": (24, 176, 352, 704),
    "2.0x": (24, 244, 488, 976),
}
_BLOCKS = (4, 8, 4)
_STRIDES = (8, 16, 32)


def conv_norm(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    stride: int = 1,
    groups: int = 1,
    activation: str | None = None,
) -> list[nn.Module]:
    """Convolution without bias, batch norm, and an activation where there is one."""
    layers: list[nn.Module] = [
        nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out_channels),
    ]
    act = build_activation(activation)
    return layers if act is None else [*layers, act]


class ShuffleUnit(nn.Module):
    """The branches of a block (figure 3c and d): ``branch2`` of half the channels, with a step also ``branch1``.

    ``branch1``: 3x3 depthwise, 1x1; ``branch2``: 1x1, 3x3 depthwise, 1x1. Depthwise ones have no activation.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, activation: str) -> None:
        super().__init__()
        half = out_channels // 2
        if stride == 1:
            self.branch1 = nn.Sequential()
        else:
            self.branch1 = nn.Sequential(
                *conv_norm(in_channels, in_channels, 3, stride, in_channels),
                *conv_norm(in_channels, half, 1, activation=activation),
            )
        self.branch2 = nn.Sequential(
            *conv_norm(in_channels if stride > 1 else half, half, 1, activation=activation),
            *conv_norm(half, half, 3, stride, half),
            *conv_norm(half, half, 1, activation=activation),
        )


class ShuffleStage(nn.Sequential):
    """Blocks, the first with a step of 2: (B, in_channels, H, W) -> (B, out_channels, H / 2, W / 2)."""

    def __init__(self, in_channels: int, out_channels: int, blocks: int, activation: str) -> None:
        super().__init__(
            ShuffleUnit(in_channels, out_channels, 2, activation),
            *(ShuffleUnit(out_channels, out_channels, 1, activation) for _ in range(blocks - 1)),
        )
        half = out_channels // 2
        self.shuffled = Shuffled((half, half), half, blocks)

    def forward(self, x: Tensor) -> Tensor:
        first, *others = (block for block in self.children() if isinstance(block, ShuffleUnit))
        branches = (first.branch1(x), first.branch2(x))
        return self.shuffled(branches, [block.branch2 for block in others])  # type: ignore[no-any-return]


@register
class ShuffleNetV2(StagedBackbone):
    """(B, in_channels, H, W) -> tuple of the maps of ``out_indices``.

    Stages 0, 1, 2 (the paper's 2, 3, 4) are at strides 8, 16, 32; before them stand a convolution with a step of 2
    (``conv1``) and a max pool. Parameters are named as in torchvision's files (``stage2.0.branch1.0``).

    Args:
        model_size: ``0.5x`` (48, 96, 192 channels), ``1.0x`` (116, 232, 464), ``1.5x`` (176, 352, 704), ``2.0x`` (244,
            488, 976).
        out_indices: stages returned.
        frozen_stages: -1: none; 0: ``conv1``; n: that and stages 0 to n - 1 keep weights and statistics.
        norm_eval: batch norms keep the statistics they were loaded with, in training too.
        activation: class name of ``torch.nn``; the paper's is ReLU.
        in_channels: of the images.

    Raises:
        ValueError: a stage that does not exist.
    """

    def __init__(
        self,
        *,
        model_size: Literal["0.5x", "1.0x", "1.5x", "2.0x"] = "1.0x",
        out_indices: Sequence[int] = (0, 1, 2),
        frozen_stages: int = -1,
        norm_eval: bool = False,
        activation: str = "ReLU",
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        if not out_indices or any(not 0 <= i <= 2 for i in out_indices) or not -1 <= frozen_stages <= 3:
            raise ValueError(
                f"ShuffleNetV2 has the stages 0 to 2, got out_indices={list(out_indices)}, "
                f"frozen_stages={frozen_stages}"
            )
        if model_size not in _CHANNELS:
            raise ValueError(f"unknown model_size {model_size!r}; write one of {', '.join(_CHANNELS)}")
        channels = _CHANNELS[model_size]
        self.conv1 = nn.Sequential(*conv_norm(in_channels, channels[0], 3, 2, activation=activation))
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.stage_names = [f"stage{number + 2}" for number in range(max(out_indices) + 1)]
        for name, fan_in, fan_out, blocks in zip(self.stage_names, channels, channels[1:], _BLOCKS):
            self.add_module(name, ShuffleStage(fan_in, fan_out, blocks, activation))
        self.feature_info = FeatureInfo(
            channels=tuple(channels[i + 1] for i in out_indices), strides=tuple(_STRIDES[i] for i in out_indices)
        )
        self.in_channels, self.out_indices = in_channels, tuple(out_indices)
        self.set_stages([(name,) for name in ("conv1", *self.stage_names)], frozen_stages + 1, norm_eval)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = self.maxpool(self.conv1(x))
        maps = []
        for name in self.stage_names:
            x = self.get_submodule(name)(x)
            maps.append(x)
        return tuple(maps[i] for i in self.out_indices)
