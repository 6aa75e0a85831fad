"""RetinaNets for tests, built from their parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hatdet.models.backbones.vargnetv2 import VargNetV2
from hatdet.models.detectors.retinanet import RetinaNet
from hatdet.models.heads.retinanet_head import RetinaNetHead
from hatdet.models.losses.focal_loss import FocalLossV2
from hatdet.models.losses.smooth_l1_loss import SmoothL1Loss
from hatdet.models.necks.retinanet_fpn import RetinaNetFPN
from hatdet.models.task_modules.anchors import AnchorGenerator
from hatdet.models.task_modules.encoders import OneHotClassEncoder, XYWHBBoxEncoder
from hatdet.models.task_modules.max_iou_matcher import MaxIoUMatcher
from hatdet.models.task_modules.multi_stride_filter import RetinanetMultiStrideFilter
from hatdet.models.task_modules.retinanet_post_process import RetinaNetPostProcess
from hatdet.models.task_modules.target_generator import BBoxTargetGenerator, MatchLabelSepEncoder

STRIDES = (8, 16, 32, 64, 128)


def build_retinanet(
    *,
    num_classes: int = 2,
    alpha: float = 0.25,
    group_base: int = 8,
    width: int = 16,
    stacked_convs: int = 1,
    scales: Sequence[float] = (1.0, 2 ** (1 / 3), 2 ** (2 / 3)),
    ratios: Sequence[float] = (0.5, 1, 2),
    **replaced: Any,
) -> RetinaNet:
    """A small one unless told otherwise; ``alpha=1, width=256, stacked_convs=4`` is the tutorial's."""
    backbone = VargNetV2(include_top=False, alpha=alpha, group_base=group_base)
    parts = dict(
        backbone=backbone,
        neck=RetinaNetFPN(
            in_strides=backbone.feature_info.strides,
            in_channels=backbone.feature_info.channels,
            out_strides=(8, 16, 32),
            out_channels=(width, width, width),
            fix_out_channel=width,
        ),
        head=RetinaNetHead(
            num_classes=num_classes,
            num_anchors=len(scales) * len(ratios),
            in_channels=width,
            feat_channels=width,
            stacked_convs=stacked_convs,
        ),
        anchors=AnchorGenerator(
            feat_strides=STRIDES, scales=scales, ratios=ratios, base_sizes=[4 * s for s in STRIDES], round_anchor=True
        ),
        targets=BBoxTargetGenerator(
            matcher=MaxIoUMatcher(pos_iou=0.5, neg_iou=0.4),
            label_encoder=MatchLabelSepEncoder(
                bbox_encoder=XYWHBBoxEncoder(), class_encoder=OneHotClassEncoder(num_classes=num_classes + 1)
            ),
        ),
        filter_module=RetinanetMultiStrideFilter(strides=STRIDES, threshold=-2.944),
        post_process=RetinaNetPostProcess(),
        loss_cls=FocalLossV2(),
        loss_reg=SmoothL1Loss(beta=1 / 9),
    )
    parts.update(replaced)
    return RetinaNet(**parts)  # type: ignore[arg-type]
