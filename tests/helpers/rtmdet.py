"""RTMDets for tests, built from their parts."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from hatdet.models.backbones.cspnext import CSPNeXt
from hatdet.models.detectors.rtmdet import RTMDet
from hatdet.models.heads.rtmdet_head import RTMDetSepBNHead
from hatdet.models.losses.iou_loss import GIoULoss
from hatdet.models.losses.quality_focal_loss import QualityFocalLoss
from hatdet.models.necks.cspnext_pafpn import CSPNeXtPAFPN
from hatdet.models.task_modules.dynamic_soft_label_assigner import DynamicSoftLabelAssigner
from hatdet.models.task_modules.post_process import RTMDetPostProcess
from hatdet.models.task_modules.preprocessor import DataPreprocessor


def build_rtmdet(
    *,
    num_classes: int = 2,
    deepen_factor: float = 0.33,
    widen_factor: float = 0.25,
    activation: str = "ReLU6",
    channel_attention: bool = False,
    use_depthwise: bool = False,
    share_conv: bool = False,
    exp_on_reg: bool = False,
    post_process: RTMDetPostProcess | None = None,
    classes: tuple[str, ...] = (),
    input_color: Literal["bgr", "gray"] = "bgr",
) -> RTMDet:
    """The nano of SSCMA (``ncadc_relu6``) unless told otherwise."""
    backbone = CSPNeXt(
        deepen_factor=deepen_factor,
        widen_factor=widen_factor,
        channel_attention=channel_attention,
        use_depthwise=use_depthwise,
        activation=activation,
        in_channels=1 if input_color == "gray" else 3,
    )
    width = int(256 * widen_factor)
    return RTMDet(
        backbone=backbone,
        neck=CSPNeXtPAFPN(
            in_channels=backbone.feature_info.channels,
            out_channels=width,
            num_csp_blocks=1,
            use_depthwise=use_depthwise,
            activation=activation,
        ),
        bbox_head=RTMDetSepBNHead(
            num_classes=num_classes,
            in_channels=width,
            feat_channels=width,
            strides=backbone.feature_info.strides,
            share_conv=share_conv,
            exp_on_reg=exp_on_reg,
            use_depthwise=use_depthwise,
            activation=activation,
        ),
        preprocessor=DataPreprocessor(mean=0.0, std=255.0),
        assigner=DynamicSoftLabelAssigner(),
        loss_cls=QualityFocalLoss(),
        loss_bbox=GIoULoss(loss_weight=2.0),
        post_process=post_process or RTMDetPostProcess(),
        classes=classes,
        input_color=input_color,
    )


def pad_ground_truth(boxes: list[Tensor], labels: list[Tensor]) -> dict[str, Tensor]:
    """``gt_boxes`` and ``gt_labels`` of a batch from those of its images: zeros and -1 where padded."""
    most = max([1, *(len(one) for one in labels)])
    gt_boxes, gt_labels = torch.zeros(len(labels), most, 4), torch.full((len(labels), most), -1)
    for i, (some, kinds) in enumerate(zip(boxes, labels, strict=True)):
        gt_boxes[i, : len(kinds)], gt_labels[i, : len(kinds)] = some.reshape(-1, 4), kinds
    return {"gt_boxes": gt_boxes, "gt_labels": gt_labels}
