"""The context modules of SSH (arXiv 1708.03979), in the form of RetinaFace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hatdet.models.mmdet.layers.conv import ConvModule
from hatdet.models.mmdet.layers.csp.defaults import BN, XAVIER
from hatdet.models.mmdet.layers.init import initialize
from hatdet.models.mmdet.necks.levels import check_scales
from hatdet.registry import register
from hatdet.utils.annotations import Spec


class SSHContextModule(nn.Module):
    """Views of 5x5 and 7x7 positions made of 3x3 convolutions, each with a quarter of ``out_channels``."""

    def __init__(self, in_channels: int, out_channels: int, conv_cfg: Spec | None, norm_cfg: Spec | None) -> None:
        super().__init__()
        quarter = out_channels // 4
        parts: dict[str, Any] = {"padding": 1, "conv_cfg": conv_cfg, "norm_cfg": norm_cfg}
        self.conv5x5_1 = ConvModule(in_channels, quarter, 3, **parts)
        self.conv5x5_2 = ConvModule(quarter, quarter, 3, act_cfg=None, **parts)
        self.conv7x7_2 = ConvModule(quarter, quarter, 3, **parts)
        self.conv7x7_3 = ConvModule(quarter, quarter, 3, act_cfg=None, **parts)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.conv5x5_1(x)
        return self.conv5x5_2(x), self.conv7x7_3(self.conv7x7_2(x))


class SSHDetModule(nn.Module):
    """3x3 (half of the channels), 5x5 and 7x7 views side by side, then a ReLU."""

    def __init__(self, in_channels: int, out_channels: int, conv_cfg: Spec | None, norm_cfg: Spec | None) -> None:
        super().__init__()
        self.conv3x3 = ConvModule(
            in_channels, out_channels // 2, 3, padding=1, conv_cfg=conv_cfg, norm_cfg=norm_cfg, act_cfg=None
        )
        self.context_module = SSHContextModule(in_channels, out_channels, conv_cfg, norm_cfg)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(torch.cat([self.conv3x3(x), *self.context_module(x)], dim=1))


@register(scope="mmdet")
class SSH(nn.Module):
    """A module for each map (``ssh_module0``, ...); sizes stay.

    Args:
        num_scales: maps.
        in_channels, out_channels: of each map; these multiples of 4.
        conv_cfg, norm_cfg: see :class:`ConvModule`.

    Raises:
        ValueError: lists of other lengths than ``num_scales``, or channels that are no multiples of 4.
    """

    def __init__(
        self,
        num_scales: int,
        in_channels: Sequence[int],
        out_channels: Sequence[int],
        conv_cfg: Spec | None = None,
        norm_cfg: Spec | None = BN,
        init_cfg: Spec | list[Any] | None = XAVIER,
    ) -> None:
        super().__init__()
        check_scales(num_scales, in_channels, out_channels)
        if any(channels % 4 for channels in out_channels):
            raise ValueError(f"out_channels={list(out_channels)}; write multiples of 4")
        self.num_scales, self.in_channels, self.out_channels = num_scales, list(in_channels), list(out_channels)
        for i, (fan_in, fan_out) in enumerate(zip(in_channels, out_channels, strict=True)):
            self.add_module(f"ssh_module{i}", SSHDetModule(fan_in, fan_out, conv_cfg, norm_cfg))
        initialize(self, init_cfg)

    def output_strides(self, in_strides: Sequence[int]) -> tuple[int, ...]:
        """Strides of the maps returned for maps of ``in_strides``."""
        return tuple(in_strides)

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        if len(feats) != self.num_scales:
            raise ValueError(f"SSH has num_scales={self.num_scales}, but {len(feats)} maps came; make them as many")
        return tuple(self.get_submodule(f"ssh_module{i}")(x) for i, x in enumerate(feats))
