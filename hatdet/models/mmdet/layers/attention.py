"""Factors for channels that are learned from the map itself."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from torch import Tensor, nn

from hatdet.models.mmdet.layers.conv import ConvModule
from hatdet.models.mmdet.layers.init import InitCfg, initialize
from hatdet.registry import register
from hatdet.utils.annotations import AsWritten, Spec

ActCfg = Annotated[tuple[dict[str, Any], ...] | list[dict[str, Any]] | dict[str, Any], AsWritten]


def _two(act_cfg: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    found = (act_cfg, act_cfg) if isinstance(act_cfg, dict) else tuple(act_cfg)
    if len(found) != 2:
        raise ValueError(f"act_cfg has {len(found)} dicts; give one, or one for each of the two convolutions")
    return found


@register(scope="mmdet")
class SELayer(nn.Module):
    """Squeeze and excitation (arXiv 1709.01507): mean of each channel, two 1x1 convolutions, a factor for each channel.

    Args:
        channels: of the map.
        ratio: ``channels / ratio`` in between.
        conv_cfg: of both convolutions.
        act_cfg: after the first and the second.
        init_cfg: of first weights.
    """

    def __init__(
        self,
        channels: int,
        ratio: int = 16,
        conv_cfg: Spec | None = None,
        act_cfg: ActCfg = ({"type": "ReLU"}, {"type": "Sigmoid"}),
        init_cfg: Annotated[InitCfg, AsWritten] = None,
    ) -> None:
        super().__init__()
        first, second = _two(act_cfg)
        squeezed = int(channels / ratio)
        self.global_avgpool = nn.AdaptiveAvgPool2d(1)
        self.conv1 = ConvModule(channels, squeezed, 1, conv_cfg=conv_cfg, act_cfg=first)
        self.conv2 = ConvModule(squeezed, channels, 1, conv_cfg=conv_cfg, act_cfg=second)
        initialize(self, init_cfg)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        return x * self.conv2(self.conv1(self.global_avgpool(x)))  # type: ignore[no-any-return]


@register(scope="mmdet")
class DyReLU(nn.Module):
    """The larger of two lines through each channel, whose slopes and heights come from the map (arXiv 2003.10027, the
    form of DyHead).

    Args:
        channels: of the map.
        ratio: ``channels / ratio`` in between.
        conv_cfg: of both convolutions.
        act_cfg: after the first and the second.
        init_cfg: of first weights.
    """

    def __init__(
        self,
        channels: int,
        ratio: int = 4,
        conv_cfg: Spec | None = None,
        act_cfg: ActCfg = ({"type": "ReLU"}, {"type": "HSigmoid", "bias": 3.0, "divisor": 6.0}),
        init_cfg: Annotated[InitCfg, AsWritten] = None,
    ) -> None:
        super().__init__()
        first, second = _two(act_cfg)
        self.channels = channels
        self.global_avgpool = nn.AdaptiveAvgPool2d(1)
        self.conv1 = ConvModule(channels, int(channels / ratio), 1, conv_cfg=conv_cfg, act_cfg=first)
        self.conv2 = ConvModule(int(channels / ratio), channels * 4, 1, conv_cfg=conv_cfg, act_cfg=second)
        initialize(self, init_cfg)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        raw = self.conv2(self.conv1(self.global_avgpool(x))) - 0.5
        a1, b1, a2, b2 = torch.split(raw, self.channels, dim=1)
        return torch.maximum(x * (a1 * 2 + 1) + b1, x * (a2 * 2) + b2)  # without training: the first is the identity


@register(scope="mmdet")
class ChannelAttention(nn.Module):
    """Mean of each channel, one 1x1 convolution, a factor for each channel (RTMDet, arXiv 2212.07784).

    Args:
        channels: of the map.
        init_cfg: of first weights.
    """

    def __init__(self, channels: int, init_cfg: Annotated[InitCfg, AsWritten] = None) -> None:
        super().__init__()
        self.global_avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Conv2d(channels, channels, 1)
        self.act = nn.Hardsigmoid(inplace=True)
        initialize(self, init_cfg)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        return x * self.act(self.fc(self.global_avgpool(x)))  # type: ignore[no-any-return]
