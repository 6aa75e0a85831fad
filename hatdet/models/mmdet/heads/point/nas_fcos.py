"""The head that a search found (NAS-FCOS, arXiv 1906.04423)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from torch import nn

from hatdet.models.mmdet.heads.point.fcos import RANGES, FCOSHead
from hatdet.models.mmdet.heads.towers import GROUP_NORM
from hatdet.models.mmdet.layers.conv import ConvModule
from hatdet.registry import register
from hatdet.utils.annotations import Spec

STACK: tuple[tuple[dict[str, Any], int, bool], ...] = (
    ({"type": "DCNv2", "deform_groups": 2}, 3, True),
    ({"type": "Conv"}, 3, False),
    ({"type": "DCNv2", "deform_groups": 2}, 3, True),
    ({"type": "Conv"}, 1, False),
)
"""Convolution, its size, whether it has a bias."""


@register(scope="mmdet")
class NASFCOSHead(FCOSHead):
    """:class:`FCOSHead` whose stacks are deformable, 3x3, deformable, 1x1 (``stacked_convs`` has no meaning)."""

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        regress_ranges: Sequence[Sequence[float]] = RANGES,
        center_sampling: bool = False,
        center_sample_radius: float = 1.5,
        norm_on_bbox: bool = False,
        centerness_on_reg: bool = False,
        loss_cls: nn.Module | None = None,
        loss_bbox: nn.Module | None = None,
        loss_centerness: nn.Module | None = None,
        norm_cfg: Spec | None = GROUP_NORM,
        cls_predictor_cfg: Spec | None = None,
        init_cfg: Spec | list[dict[str, Any]] | None = None,
        feat_channels: int = 256,
        stacked_convs: int = 4,
        strides: Sequence[int] = (4, 8, 16, 32, 64),
        dcn_on_last_conv: bool = False,
        conv_bias: bool | str = "auto",
        bbox_coder: Any = None,
        conv_cfg: Spec | None = None,
        train_cfg: dict[str, Any] | None = None,
        test_cfg: Spec | None = None,
    ) -> None:
        last = {"type": "Normal", "std": 0.01}
        init_cfg = init_cfg or [
            {"type": "Caffe2Xavier", "layer": ["ConvModule", "Conv2d"]},
            {**last, "override": [
                {"name": "conv_reg"}, {"name": "conv_centerness"}, {**last, "name": "conv_cls", "bias_prob": 0.01},
            ]},
        ]  # fmt: skip
        super().__init__(
            num_classes, in_channels, regress_ranges, center_sampling, center_sample_radius, norm_on_bbox,
            centerness_on_reg, loss_cls, loss_bbox, loss_centerness, norm_cfg, cls_predictor_cfg, init_cfg,
            feat_channels, stacked_convs, strides, dcn_on_last_conv, conv_bias, bbox_coder, conv_cfg, train_cfg,
            test_cfg,
        )  # fmt: skip

    def _stack(self) -> nn.ModuleList:
        layers = nn.ModuleList()
        for i, (cfg, size, bias) in enumerate(STACK):
            channels = self.in_channels if i == 0 else self.feat_channels
            layers.append(
                ConvModule(
                    channels, self.feat_channels, size, stride=1, padding=size // 2, norm_cfg=self.norm_cfg,
                    bias=bias, conv_cfg=copy.deepcopy(cfg),
                )
            )  # fmt: skip
        return layers
