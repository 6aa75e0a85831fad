"""The neck of YOLOv3 (arXiv 1804.02767)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hatdet.models.mmdet.layers.conv import ConvModule
from hatdet.models.mmdet.layers.csp.defaults import LEAKY, LEARNED_BN
from hatdet.models.mmdet.layers.init import initialize
from hatdet.models.mmdet.necks.levels import check_scales
from hatdet.registry import register
from hatdet.utils.annotations import Spec


class DetectionBlock(nn.Module):
    """Five convolutions, 1x1 to ``channels`` and 3x3 to twice as many in turn (``conv1`` to ``conv5``)."""

    def __init__(self, in_channels: int, channels: int, **parts: Any) -> None:
        super().__init__()
        self.conv1 = ConvModule(in_channels, channels, 1, **parts)
        self.conv2 = ConvModule(channels, 2 * channels, 3, padding=1, **parts)
        self.conv3 = ConvModule(2 * channels, channels, 1, **parts)
        self.conv4 = ConvModule(channels, 2 * channels, 3, padding=1, **parts)
        self.conv5 = ConvModule(2 * channels, channels, 1, **parts)

    def forward(self, x: Tensor) -> Tensor:
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4, self.conv5):
            x = conv(x)
        return x


@register(scope="mmdet")
class YOLOV3Neck(nn.Module):
    """From the coarsest map down: a block (``detect1``, ...), a 1x1 convolution (``conv1``, ...), upsampling by 2 and
    concatenation with the next map.

    The maps come finest first; channels are told, and maps returned, coarsest first.

    Args:
        num_scales: maps.
        in_channels, out_channels: of each map, coarsest first.
        conv_cfg, norm_cfg, act_cfg: see :class:`ConvModule`.

    Raises:
        ValueError: lists of other lengths than ``num_scales``.
    """

    def __init__(
        self,
        num_scales: int,
        in_channels: Sequence[int],
        out_channels: Sequence[int],
        conv_cfg: Spec | None = None,
        norm_cfg: Spec | None = LEARNED_BN,
        act_cfg: Spec | None = LEAKY,
        init_cfg: Spec | list[Any] | None = None,
    ) -> None:
        super().__init__()
        check_scales(num_scales, in_channels, out_channels)
        self.num_scales, self.out_channels = num_scales, list(out_channels)
        parts: dict[str, Any] = {"conv_cfg": conv_cfg, "norm_cfg": norm_cfg, "act_cfg": act_cfg}
        self.detect1 = DetectionBlock(in_channels[0], out_channels[0], **parts)
        for i in range(1, num_scales):
            width = out_channels[i]
            self.add_module(f"conv{i}", ConvModule(out_channels[i - 1], width, 1, **parts))
            self.add_module(f"detect{i + 1}", DetectionBlock(in_channels[i] + width, width, **parts))
        initialize(self, init_cfg)

    def output_strides(self, in_strides: Sequence[int]) -> tuple[int, ...]:
        """Strides of the maps returned for maps of ``in_strides``."""
        return tuple(reversed(in_strides))

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        coarsest, *finer = reversed(list(feats))
        outs = [self.detect1(coarsest)]
        for i, x in enumerate(finer, 1):
            up = F.interpolate(self.get_submodule(f"conv{i}")(outs[-1]), scale_factor=2)
            outs.append(self.get_submodule(f"detect{i + 1}")(torch.cat((up, x), dim=1)))
        return tuple(outs)
