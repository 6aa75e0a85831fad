"""Convolutions between features and maps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from hatdet.models.mmdet.heads.towers import tower


def stack(
    in_channels: int,
    channels: int,
    length: int,
    conv_cfg: Mapping[str, Any] | None = None,
    norm_cfg: Mapping[str, Any] | None = None,
) -> nn.Sequential:
    """``length`` 3x3 convolutions with ReLU as one module, (B, in_channels, H, W) -> (B, channels, H, W)."""
    return nn.Sequential(*tower(in_channels, channels, length, conv_cfg=conv_cfg, norm_cfg=norm_cfg))
