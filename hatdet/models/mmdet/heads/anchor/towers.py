"""Convolutions between features and maps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from hatdet.models.mmdet.layers.conv import ConvModule


def tower(
    in_channels: int,
    channels: int,
    length: int,
    conv_cfg: Mapping[str, Any] | None = None,
    norm_cfg: Mapping[str, Any] | None = None,
) -> nn.Sequential:
    """``length`` 3x3 convolutions with ReLU, (B, in_channels, H, W) -> (B, channels, H, W)."""
    inputs = [in_channels, *[channels] * length]
    return nn.Sequential(
        *(ConvModule(inputs[i], channels, 3, padding=1, conv_cfg=conv_cfg, norm_cfg=norm_cfg) for i in range(length))
    )
