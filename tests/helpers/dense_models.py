"""One small model of each dense detector of ``hatdet.models.mmdet``, as its config has it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from tests.helpers.components import made

BN = {"type": "BN"}
NMS = {"type": "nms", "iou_threshold": 0.5}
TEST = {"nms_pre": 60, "min_bbox_size": 0, "score_thr": 0.05, "nms": NMS, "max_per_img": 20}
BACKBONE = {"type": "MobileNetV2", "widen_factor": 0.125, "out_indices": (2, 4, 6)}
CHANNELS = [8, 16, 40]
NECK = {"type": "FPN", "in_channels": CHANNELS, "out_channels": 16, "num_outs": 3}
TOWER = {"num_classes": 3, "in_channels": 16, "feat_channels": 16, "stacked_convs": 1, "norm_cfg": BN}
STRIDES = [8, 16, 32]
ANCHOR = {
    "type": "AnchorGenerator",
    "ratios": [1.0],
    "octave_base_scale": 8,
    "scales_per_octave": 1,
    "strides": STRIDES,
}
ANCHORS = {
    "type": "AnchorGenerator", "octave_base_scale": 4, "scales_per_octave": 2, "ratios": [0.5, 1.0], "strides": STRIDES,
}  # fmt: skip
DELTAS = {"type": "DeltaXYWHBBoxCoder", "target_means": [0.0] * 4, "target_stds": [0.1, 0.1, 0.2, 0.2]}
ATSS = {"assigner": {"type": "ATSSAssigner", "topk": 9}, "allowed_border": -1, "pos_weight": -1}
MAX_IOU = {"type": "MaxIoUAssigner", "pos_iou_thr": 0.5, "neg_iou_thr": 0.4, "min_pos_iou": 0, "ignore_iof_thr": -1}
RETINA = {"assigner": MAX_IOU, "allowed_border": -1, "pos_weight": -1}
FOCAL = {"type": "FocalLoss", "use_sigmoid": True, "gamma": 2.0, "alpha": 0.25, "loss_weight": 1.0}
QFL = {"type": "QualityFocalLoss", "use_sigmoid": True, "beta": 2.0, "loss_weight": 1.0}
GIOU = {"type": "GIoULoss", "loss_weight": 2.0}
BINARY = {"type": "CrossEntropyLoss", "use_sigmoid": True, "loss_weight": 1.0}


def model(kind: str, head: dict[str, Any], train: Any = None, test: Any = TEST, **parts: Any) -> dict[str, Any]:
    return {"type": kind, "backbone": BACKBONE, "neck": NECK, "bbox_head": head, "train_cfg": train, "test_cfg": test,
            **parts}  # fmt: skip


def tower(kind: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, **TOWER, **more}


def pico(train: dict[str, Any], neck: str, **head: Any) -> dict[str, Any]:
    """A PicoDet, whose parts know their channels from each other."""
    return {
        "type": "PicoDet", "backbone": BACKBONE, "neck": {"type": neck, "out_channels": 16},
        "preprocessor": {"type": "DetDataPreprocessor"},
        "bbox_head": {"type": "PicoHead", "num_classes": 3, "stacked_convs": 1, **head},
        "train_cfg": train, "test_cfg": TEST,
    }  # fmt: skip


RANGES = ((-1, 32), (32, 64), (64, 1e8))
FCOS = {"strides": STRIDES, "regress_ranges": RANGES, "loss_bbox": GIOU}
YOLOX_TRAIN = {"assigner": {"type": "SimOTAAssigner", "center_radius": 2.5}}
SSD_ANCHORS = {
    "type": "SSDAnchorGenerator", "scale_major": False, "strides": STRIDES, "ratios": [[2], [2, 3], [2]],
    "min_sizes": [16, 32, 64], "max_sizes": [32, 64, 96],
}  # fmt: skip
SSD_TRAIN = {
    "assigner": {**MAX_IOU, "neg_iou_thr": 0.5, "min_pos_iou": 0.0, "gt_max_assign_all": False},
    "sampler": {"type": "PseudoSampler"}, "smoothl1_beta": 1.0, "allowed_border": -1, "pos_weight": -1,
    "neg_pos_ratio": 3,
}  # fmt: skip
YOLO_ANCHORS = {
    "type": "YOLOAnchorGenerator", "base_sizes": [[(60, 45), (48, 70)], [(30, 30), (24, 40)], [(10, 13), (16, 8)]],
    "strides": STRIDES[::-1],
}  # fmt: skip
GRID = {"assigner": {"type": "GridAssigner", "pos_iou_thr": 0.5, "neg_iou_thr": 0.5, "min_pos_iou": 0}}
DARK = {"type": "Darknet", "depth": 53, "out_indices": (3, 4, 5)}

MODELS: dict[str, dict[str, Any]] = {
    "RetinaNet": model("RetinaNet", {
        "type": "RetinaHead", **{k: v for k, v in TOWER.items() if k != "norm_cfg"}, "anchor_generator": ANCHORS,
        "bbox_coder": DELTAS, "loss_cls": FOCAL, "loss_bbox": {"type": "L1Loss"},
    }, RETINA),
    "RetinaNet of norms": model("RetinaNet", {
        "type": "RetinaSepBNHead", **TOWER, "num_ins": 3, "anchor_generator": ANCHORS, "bbox_coder": DELTAS,
        "loss_cls": FOCAL, "loss_bbox": {"type": "L1Loss"},
    }, RETINA),
    "FSAF": model("FSAF", {
        "type": "FSAFHead", **{k: v for k, v in TOWER.items() if k != "norm_cfg"}, "reg_decoded_bbox": True,
        "anchor_generator": {**ANCHOR, "octave_base_scale": 1}, "loss_cls": {**FOCAL, "reduction": "none"},
        "bbox_coder": {"type": "TBLRBBoxCoder", "normalizer": 4.0},
        "loss_bbox": {"type": "IoULoss", "eps": 1e-6, "loss_weight": 1.0, "reduction": "none"},
    }, {"assigner": {"type": "CenterRegionAssigner", "pos_scale": 0.2, "neg_scale": 0.2, "min_pos_iof": 0.01},
        "allowed_border": -1, "pos_weight": -1}),
    "YOLOF": model("YOLOF", {
        "type": "YOLOFHead", "num_classes": 3, "in_channels": 16, "num_cls_convs": 1, "num_reg_convs": 1,
        "reg_decoded_bbox": True, "loss_cls": FOCAL, "loss_bbox": GIOU,
        "anchor_generator": {"type": "AnchorGenerator", "ratios": [1.0], "scales": [1, 2, 4], "strides": [32]},
        "bbox_coder": {**DELTAS, "add_ctr_clamp": True, "ctr_clamp": 32},
    }, {"assigner": {"type": "UniformAssigner", "pos_ignore_thr": 0.15, "neg_ignore_thr": 0.7},
        "allowed_border": -1, "pos_weight": -1},
        backbone={**BACKBONE, "out_indices": (6,)},
        neck={"type": "DilatedEncoder", "in_channels": 40, "out_channels": 16, "block_mid_channels": 8,
              "num_residual_blocks": 1, "block_dilations": [2]}),
    "FCOS": model("FCOS", tower("FCOSHead", **FCOS)),
    "FCOS of strides": model("FCOS", tower(
        "FCOSHead", **FCOS, norm_on_bbox=True, centerness_on_reg=True, center_sampling=True)),
    "AutoAssign": model("AutoAssign", tower(
        "AutoAssignHead", strides=STRIDES, loss_bbox={"type": "GIoULoss", "loss_weight": 5.0})),
    "ATSS": model("ATSS", tower("ATSSHead", anchor_generator=ANCHOR, bbox_coder=DELTAS, loss_cls=FOCAL, loss_bbox=GIOU,
                                loss_centerness=BINARY), ATSS),
    "DDOD": model("DDOD", tower("DDODHead", anchor_generator=ANCHOR, bbox_coder=DELTAS, loss_cls=FOCAL, loss_bbox=GIOU,
                                loss_iou=BINARY), {
        "assigner": {"type": "ATSSAssigner", "topk": 9, "alpha": 0.8}, "allowed_border": -1, "pos_weight": -1,
        "reg_assigner": {"type": "ATSSAssigner", "topk": 9, "alpha": 0.5}}),
    "GFL": model("GFL", tower("GFLHead", anchor_generator=ANCHOR, loss_cls=QFL, loss_bbox=GIOU, reg_max=7,
                              loss_dfl={"type": "DistributionFocalLoss", "loss_weight": 0.25}), ATSS),
    "FoveaBox": model("FOVEA", {
        "type": "FoveaHead", **{k: v for k, v in TOWER.items() if k != "norm_cfg"}, "strides": STRIDES,
        "base_edge_list": [16, 32, 64], "scale_ranges": ((8, 32), (16, 64), (32, 128)), "sigma": 0.4,
        "with_deform": False, "loss_cls": {**FOCAL, "gamma": 1.5, "alpha": 0.4},
        "loss_bbox": {"type": "SmoothL1Loss", "beta": 0.11, "loss_weight": 1.0},
    }, {}),
    "RTMDet": model("RTMDet", {
        "type": "RTMDetSepBNHead", **TOWER,
        "anchor_generator": {"type": "MlvlPointGenerator", "offset": 0, "strides": STRIDES},
        "bbox_coder": {"type": "DistancePointBBoxCoder"}, "loss_cls": QFL, "loss_bbox": GIOU, "with_objectness": False,
        "exp_on_reg": True, "share_conv": True, "act_cfg": {"type": "ReLU"},
    }, {"assigner": {"type": "DynamicSoftLabelAssigner", "topk": 13}, "allowed_border": -1, "pos_weight": -1}),
    "YOLOX": model("YOLOX", {
        "type": "YOLOXHead", **TOWER, "strides": STRIDES, "act_cfg": {"type": "ReLU"},
    }, YOLOX_TRAIN, {"score_thr": 0.05, "nms": {"type": "nms", "iou_threshold": 0.65}}),
    "SSD": model("SingleStageDetector", {
        "type": "SSDHead", "num_classes": 3, "in_channels": CHANNELS, "use_depthwise": True, "norm_cfg": BN,
        "act_cfg": {"type": "ReLU6"}, "anchor_generator": SSD_ANCHORS, "bbox_coder": DELTAS,
    }, SSD_TRAIN, {**TEST, "score_thr": 0.1}, neck=None),
    "YOLOv3": model("YOLOV3", {
        "type": "YOLOV3Head", "num_classes": 3, "in_channels": [16, 12, 8], "out_channels": [16, 12, 8],
        "anchor_generator": YOLO_ANCHORS, "featmap_strides": STRIDES[::-1],
        "act_cfg": {"type": "LeakyReLU", "negative_slope": 0.1},
    }, GRID, {**TEST, "conf_thr": 0.005},
        neck={"type": "YOLOV3Neck", "num_scales": 3, "in_channels": CHANNELS[::-1], "out_channels": [16, 12, 8]}),
    "CenterNet": model("CenterNet", {
        "type": "CenterNetHead", "num_classes": 3, "in_channels": 16, "feat_channels": 16,
    }, None, {
        "topk": 40, "local_maximum_kernel": 3, "max_per_img": 40,
    }, backbone={**BACKBONE, "out_indices": (6,)},
        neck={"type": "CTResNetNeck", "in_channels": 40, "num_deconv_filters": (24, 16, 16),
              "num_deconv_kernels": (4, 4, 4), "use_dcn": False}),
    "TOOD": model("TOOD", {
        "type": "TOODHead", **TOWER, "stacked_convs": 2, "num_dcn": 0, "anchor_type": "anchor_free",
        "anchor_generator": ANCHOR, "bbox_coder": DELTAS, "loss_bbox": GIOU,
        "initial_loss_cls": {**FOCAL, "activated": True}, "loss_cls": {**QFL, "activated": True},
    }, {"initial_epoch": 0, "initial_assigner": {"type": "ATSSAssigner", "topk": 9},
        "assigner": {"type": "TaskAlignedAssigner", "topk": 13}, "alpha": 1, "beta": 6, "allowed_border": -1,
        "pos_weight": -1}),
    "PicoDet": pico({"initial_epoch": 1, "initial_assigner": {"type": "ATSSAssigner", "topk": 9},
                     "assigner": {"type": "TaskAlignedAssigner", "topk": 13}, "alpha": 1, "beta": 6}, "LCPAN"),
    "PicoDet of the first release": pico(
        {"assigner": {"type": "SimOTAAssigner", "candidate_topk": 10, "iou_weight": 6.0}}, "CSPPAN",
        channel_attention=False, align=False, activation="ReLU6"),
    "RPN": {"type": "RPN", "backbone": BACKBONE, "neck": NECK, "rpn_head": {
        "type": "RPNHead", "in_channels": 16, "feat_channels": 16, "anchor_generator": ANCHORS,
    }, "train_cfg": {"rpn": {"assigner": {**MAX_IOU, "pos_iou_thr": 0.7, "neg_iou_thr": 0.3, "min_pos_iou": 0.3},
        "sampler": {
            "type": "RandomSampler", "num": 256, "pos_fraction": 0.5, "neg_pos_ub": -1, "add_gt_as_proposals": False},
        "allowed_border": 0, "pos_weight": -1}},
        "test_cfg": {"rpn": {
            "nms_pre": 60, "max_per_img": 20, "nms": {"type": "nms", "iou_threshold": 0.7}, "min_bbox_size": 0}}},
}  # fmt: skip
"""By name: networks of convolutions alone, whose boxes have a decoder."""


def build(name: str, **more: Any) -> Any:
    """The model of that name, see :func:`of`."""
    return of({**MODELS[name], **more})


def of(config: dict[str, Any]) -> Any:
    """The model, with weights that say something of every picture."""
    torch.manual_seed(0)
    found = made(config)
    with torch.no_grad():
        for module in found.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.3)
    return found
