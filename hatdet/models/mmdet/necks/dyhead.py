"""The dynamic head (arXiv 2106.08322): attention over levels, positions and tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hatdet.models.mmdet.layers.activation import build_activation
from hatdet.models.mmdet.layers.attention import DyReLU
from hatdet.models.mmdet.layers.deform_conv import ModulatedDeformConv2d
from hatdet.models.mmdet.layers.init import constant_init, normal_init
from hatdet.models.mmdet.layers.norm import build_norm
from hatdet.registry import register
from hatdet.utils.annotations import Spec

_GN: Spec = {"type": "GN", "num_groups": 16, "requires_grad": True}
_GATE: Spec = {"type": "HSigmoid", "bias": 3.0, "divisor": 6.0}
_TAPS = 9


class DyDCNv2(nn.Module):
    """A 3x3 modulated deformable convolution whose offsets and factors come with the input, normalized (``conv``,
    ``norm``)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, norm_cfg: Spec | None = _GN) -> None:
        super().__init__()
        self.conv = ModulatedDeformConv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=norm_cfg is None)
        self.norm = nn.Identity() if norm_cfg is None else build_norm(norm_cfg, out_channels)

    def forward(self, x: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
        return self.norm(self.conv(x, offset, mask))  # type: ignore[no-any-return]


class DyHeadBlock(nn.Module):
    """Each map from itself, the finer and the coarser one, by deformable convolutions at the places that the map
    itself says; a gate for each of the three, their mean, and :class:`DyReLU`.

    Args:
        in_channels, out_channels: of all maps.
        zero_init_offset: begin without offsets.
        act_cfg: of the gates.
    """

    def __init__(
        self, in_channels: int, out_channels: int, zero_init_offset: bool = True, act_cfg: Spec = _GATE
    ) -> None:
        super().__init__()
        self.spatial_conv_high = DyDCNv2(in_channels, out_channels)
        self.spatial_conv_mid = DyDCNv2(in_channels, out_channels)
        self.spatial_conv_low = DyDCNv2(in_channels, out_channels, stride=2)
        self.spatial_conv_offset = nn.Conv2d(in_channels, 3 * _TAPS, 3, padding=1)
        self.scale_attn_module = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(out_channels, 1, 1), nn.ReLU(inplace=True), build_activation(act_cfg)
        )
        self.task_attn_module = DyReLU(out_channels)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                normal_init(module, std=0.01)
        if zero_init_offset:
            constant_init(self.spatial_conv_offset, 0)

    def _gated(self, x: Tensor) -> Tensor:
        return x * self.scale_attn_module(x)  # type: ignore[no-any-return]

    def _level(self, maps: Sequence[Tensor], level: int) -> Tensor:
        x = maps[level]
        raw = self.spatial_conv_offset(x)
        places = raw[:, : 2 * _TAPS], torch.sigmoid(raw[:, 2 * _TAPS :])
        parts = [self._gated(self.spatial_conv_mid(x, *places))]
        if level > 0:
            parts.append(self._gated(self.spatial_conv_low(maps[level - 1], *places)))
        if level < len(maps) - 1:
            coarse = maps[level + 1]
            high = self.spatial_conv_high(coarse, *(_as_lying(numbers, coarse.shape[-2:]) for numbers in places))
            high = F.interpolate(high, size=x.shape[-2:], mode="bilinear", align_corners=True)
            parts.append(self._gated(high))
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return self.task_attn_module(total / len(parts))  # type: ignore[no-any-return]

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        return [self._level(maps, level) for level in range(len(maps))]


def _as_lying(x: Tensor, size: Sequence[int]) -> Tensor:
    """The first numbers of ``x`` as they lie in memory, as a smaller map with as many channels.

    What moves the taps on the coarser map was computed on the finer one. The operators that published weights were
    trained with read it with the coarser map's rows and columns.
    """
    rows, columns = size
    flat = x.flatten(1)[:, : x.shape[1] * rows * columns]
    return flat.reshape(len(x), x.shape[1], rows, columns)


@register(scope="mmdet")
class DyHead(nn.Module):
    """``num_blocks`` of :class:`DyHeadBlock`; sizes stay. It stands behind a pyramid.

    Args:
        in_channels, out_channels: of all maps.
        num_blocks: blocks.
        zero_init_offset: begin without offsets.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        num_blocks: int = 6,
        zero_init_offset: bool = True,
        init_cfg: None = None,
    ) -> None:
        super().__init__()
        self.out_channels = out_channels
        blocks: list[Any] = [
            DyHeadBlock(in_channels if i == 0 else out_channels, out_channels, zero_init_offset)
            for i in range(num_blocks)
        ]
        self.dyhead_blocks = nn.Sequential(*blocks)

    def output_strides(self, in_strides: Sequence[int]) -> tuple[int, ...]:
        """Strides of the maps returned for maps of ``in_strides``."""
        return tuple(in_strides)

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return tuple(self.dyhead_blocks(feats))
