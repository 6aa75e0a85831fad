"""ShuffleNetV2 (Ma et al., arXiv 1807.11164), with the parameter names of torchvision's weights.

A shuffle moves every channel of a map, and on a device that is a convolution with as many multiplications as a real
one. Here none is moved: :class:`_Route` follows each channel through the splits and shuffles of its stage, each
convolution gives its channels in the order in which they are used, and the blocks take runs of them. The function is
the same, number by number; the orders that are left stand beside 1x1 convolutions, whose weights take them in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from hatdet.models.backbones.freezing import freeze, keep_frozen
from hatdet.models.feature_info import FeatureInfo
from hatdet.models.layers.activations import build_activation
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
_Channel = tuple[int, int]  # source (0 and 1: the branches of the first block, k + 1: that of block k), its channel


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


class _Route:
    """Where the channels of a stage go.

    After each block its ``2 * half`` channels are shuffled in two groups (the first of each, the second of each, ...);
    the first half passes the next block, the second half is what its convolutions take.

    Args:
        half: channels of a branch.
        blocks: of the stage.

    Attributes:
        orders: of each source: its channels by the block that takes them; those that reach the end come last.
        runs: of each block from 1 on, and of the end: sources, the first and the last + 1 of their ordered channels.
        places: of each of these: where its channels, in their own order, are in its runs one after the other.
    """

    def __init__(self, half: int, blocks: int) -> None:
        live = _shuffled([(source, c) for source in (0, 1) for c in range(half)])
        taken: list[list[_Channel]] = []
        for block in range(1, blocks):
            taken.append(live[half:])
            live = _shuffled([*live[:half], *((block + 1, c) for c in range(half))])
        taken.append(live)
        user = {channel: number for number, channels in enumerate(taken) for channel in channels}
        self.orders = [[c for _, c in sorted((user[s, c], c) for c in range(half))] for s in range(blocks + 1)]
        self.runs: list[list[tuple[int, int, int]]] = []
        self.places: list[list[int]] = []
        for number, channels in enumerate(taken):
            runs, laid = [], list[_Channel]()
            for source, order in enumerate(self.orders):
                places = [place for place, c in enumerate(order) if user[source, c] == number]
                if places:
                    runs.append((source, places[0], places[-1] + 1))
                    laid += [(source, order[place]) for place in places]
            at = {channel: place for place, channel in enumerate(laid)}
            self.runs.append(runs)
            self.places.append([at[channel] for channel in channels])


def _shuffled(channels: Sequence[_Channel]) -> list[_Channel]:
    half = len(channels) // 2
    return [channel for pair in zip(channels[:half], channels[half:], strict=True) for channel in pair]


class ShuffleStage(nn.Sequential):
    """Blocks, the first with a step of 2: (B, in_channels, H, W) -> (B, out_channels, H / 2, W / 2)."""

    def __init__(self, in_channels: int, out_channels: int, blocks: int, activation: str) -> None:
        super().__init__(
            ShuffleUnit(in_channels, out_channels, 2, activation),
            *(ShuffleUnit(out_channels, out_channels, 1, activation) for _ in range(blocks - 1)),
        )
        route = _Route(out_channels // 2, blocks)
        self.runs, self._half = route.runs, out_channels // 2
        for name, lists in (("order", route.orders), ("place", route.places)):
            for number, channels in enumerate(lists):
                self.register_buffer(f"_{name}{number}", torch.tensor(channels), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        first, *others = self.children()
        sources = [self._ordered(first.branch1(x), 0), self._ordered(first.branch2(x), 1)]  # type: ignore[operator]
        for number, block in enumerate(others):
            sources.append(self._ordered(block.branch2(self._taken(sources, number)), number + 2))  # type: ignore[operator]
        return self._taken(sources, len(others))

    def _ordered(self, x: Tensor, source: int) -> Tensor:
        return x.index_select(1, self.get_buffer(f"_order{source}"))

    def _taken(self, sources: Sequence[Tensor], number: int) -> Tensor:
        parts = [
            sources[source] if (first, last) == (0, self._half) else sources[source][:, first:last]
            for source, first, last in self.runs[number]
        ]
        return torch.cat(parts, dim=1).index_select(1, self.get_buffer(f"_place{number}"))


@register
class ShuffleNetV2(nn.Module):
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
        self.in_channels, self.out_indices, self.norm_eval = in_channels, tuple(out_indices), norm_eval
        frozen = ["conv1", *self.stage_names][: frozen_stages + 1]
        self._frozen = [self.get_submodule(name) for name in frozen]
        freeze(self._frozen)

    def train(self, mode: bool = True) -> ShuffleNetV2:
        super().train(mode)
        keep_frozen(self, self._frozen, self.norm_eval)
        return self

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = self.maxpool(self.conv1(x))
        maps = []
        for name in self.stage_names:
            x = self.get_submodule(name)(x)
            maps.append(x)
        return tuple(maps[i] for i in self.out_indices)
