"""The neck of CenterNet (arXiv 1904.07850)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hatdet.models.mmdet.layers.conv import ConvModule
from hatdet.models.mmdet.layers.csp.defaults import BN
from hatdet.models.mmdet.layers.init import initialize
from hatdet.registry import register
from hatdet.utils.annotations import Spec


@register(scope="mmdet")
class CTResNetNeck(nn.Module):
    """The coarsest map, twice as large with each pair of a 3x3 convolution and a transposed one (``deconv_layers``).

    Tuple of maps -> tuple of one map with ``num_deconv_filters[-1]`` channels.

    Args:
        in_channels: of the coarsest map.
        num_deconv_filters: channels of each pair.
        num_deconv_kernels: side of each transposed convolution; 4 makes a map exactly twice as large.
        use_dcn: deformable 3x3 convolutions.

    Raises:
        ValueError: lists of different lengths.
    """

    def __init__(
        self,
        in_channels: int,
        num_deconv_filters: Sequence[int],
        num_deconv_kernels: Sequence[int],
        use_dcn: bool = True,
        init_cfg: Spec | list[Any] | None = None,
    ) -> None:
        super().__init__()
        if len(num_deconv_filters) != len(num_deconv_kernels):
            raise ValueError(
                f"num_deconv_filters has {len(num_deconv_filters)} numbers, num_deconv_kernels "
                f"{len(num_deconv_kernels)}; write as many"
            )
        self.out_channels, self.use_dcn = num_deconv_filters[-1], use_dcn
        conv_cfg = {"type": "DCNv2"} if use_dcn else None
        layers, channels = [], in_channels
        for width, kernel in zip(num_deconv_filters, num_deconv_kernels, strict=True):
            layers.append(ConvModule(channels, width, 3, padding=1, conv_cfg=conv_cfg, norm_cfg=BN))
            layers.append(
                ConvModule(width, width, kernel, stride=2, padding=1, conv_cfg={"type": "deconv"}, norm_cfg=BN)
            )
            channels = width
        self.deconv_layers = nn.Sequential(*layers)
        for module in self.modules():
            if isinstance(module, nn.ConvTranspose2d):
                _interpolating(module)
            elif isinstance(module, nn.Conv2d) and not use_dcn:
                module.reset_parameters()
        initialize(self, init_cfg)

    def output_strides(self, in_strides: Sequence[int]) -> tuple[int, ...]:
        """Strides of the maps returned for maps of ``in_strides``."""
        return (in_strides[-1] // 2 ** (len(self.deconv_layers) // 2),)

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return (self.deconv_layers(feats[-1]),)


@torch.no_grad()
def _interpolating(conv: nn.ConvTranspose2d) -> None:
    """The first weights are those of bilinear upsampling, of every input into the first output; the others stay."""
    conv.reset_parameters()
    side = conv.kernel_size[0]
    half = math.ceil(side / 2)
    centre = (2 * half - 1 - half % 2) / (2.0 * half)
    line = 1 - (torch.arange(side) / half - centre).abs()
    conv.weight[:, 0] = line[:, None] * line
