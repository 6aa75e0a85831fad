"""Focus and spatial pyramid pooling of YOLOX."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hatdet.models.mmdet.layers.conv import ConvModule
from hatdet.models.mmdet.layers.csp.defaults import SWISH, YOLO_BN
from hatdet.models.mmdet.layers.init import initialize
from hatdet.utils.annotations import Spec


class Focus(nn.Module):
    """Every 2x2 pixels into channels, then a convolution (``conv``).

    (B, C, H, W) -> (B, out_channels, H / 2, W / 2). Channels are those of the pixels top left, bottom left, top right,
    bottom right.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        stride: int = 1,
        conv_cfg: Spec | None = None,
        norm_cfg: Spec | None = YOLO_BN,
        act_cfg: Spec | None = SWISH,
    ) -> None:
        super().__init__()
        self.conv = ConvModule(
            in_channels * 4, out_channels, kernel_size, stride, padding=(kernel_size - 1) // 2,
            conv_cfg=conv_cfg, norm_cfg=norm_cfg, act_cfg=act_cfg,
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        left, right = x[..., ::2], x[..., 1::2]
        pixels = (left[..., ::2, :], left[..., 1::2, :], right[..., ::2, :], right[..., 1::2, :])
        return self.conv(torch.cat(pixels, dim=1))  # type: ignore[no-any-return]


class SPPBottleneck(nn.Module):
    """Spatial pyramid pooling (arXiv 1406.4729) in the form of YOLOv3-SPP: a 1x1 convolution to half the channels,
    max pools of several sizes beside it, a 1x1 convolution of the concatenation (``conv1``, ``poolings``, ``conv2``).

    Args:
        in_channels, out_channels: of the layer.
        kernel_sizes: sides of the pools.
        conv_cfg, norm_cfg, act_cfg: see :class:`ConvModule`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_sizes: Sequence[int] = (5, 9, 13),
        conv_cfg: Spec | None = None,
        norm_cfg: Spec | None = YOLO_BN,
        act_cfg: Spec | None = SWISH,
        init_cfg: Spec | list[Any] | None = None,
    ) -> None:
        super().__init__()
        middle = in_channels // 2
        parts: dict[str, Any] = {"conv_cfg": conv_cfg, "norm_cfg": norm_cfg, "act_cfg": act_cfg}
        self.conv1 = ConvModule(in_channels, middle, 1, **parts)
        self.poolings = nn.ModuleList(nn.MaxPool2d(side, stride=1, padding=side // 2) for side in kernel_sizes)
        self.conv2 = ConvModule(middle * (len(kernel_sizes) + 1), out_channels, 1, **parts)
        initialize(self, init_cfg)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        return self.conv2(torch.cat([x, *(pool(x) for pool in self.poolings)], dim=1))  # type: ignore[no-any-return]
