"""More small dense detectors: other heads, losses, backbones and necks than ``dense_models`` has."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from tests.helpers.dense_models import (
    ANCHOR,
    ANCHORS,
    ATSS,
    BINARY,
    BN,
    CHANNELS,
    DELTAS,
    FOCAL,
    GIOU,
    MAX_IOU,
    MODELS,
    QFL,
    RETINA,
    SSD_ANCHORS,
    SSD_TRAIN,
    STRIDES,
    TEST,
    TOWER,
    YOLOX_TRAIN,
    model,
    of,
    tower,
)

SQUARES = {
    "approx_anchor_generator": ANCHORS,
    "square_anchor_generator": {"type": "AnchorGenerator", "ratios": [1.0], "scales": [4], "strides": STRIDES},
}
BARE = {key: value for key, value in TOWER.items() if key != "norm_cfg"}
RETINA_HEAD = MODELS["RetinaNet"]["bbox_head"]
APPROX = {
    "type": "ApproxMaxIoUAssigner", "pos_iou_thr": 0.5, "neg_iou_thr": 0.4, "min_pos_iou": 0.0, "ignore_iof_thr": -1,
}  # fmt: skip
PAA = {
    "assigner": {**MAX_IOU, "pos_iou_thr": 0.1, "neg_iou_thr": 0.1}, "allowed_border": -1, "pos_weight": -1,
}  # fmt: skip
ALIGNED = {"type": "TaskAlignedAssigner", "topk": 13}
TOOD = {
    "initial_epoch": 4, "initial_assigner": {"type": "ATSSAssigner", "topk": 9}, "assigner": ALIGNED, "alpha": 1,
    "beta": 6, "allowed_border": -1, "pos_weight": -1,
}  # fmt: skip
POINTS = {"type": "MlvlPointGenerator", "offset": 0, "strides": STRIDES}
RTM = {
    "assigner": {"type": "DynamicSoftLabelAssigner", "topk": 13}, "allowed_border": -1, "pos_weight": -1,
}  # fmt: skip
KEYPOINTS = {"topk": 20, "local_maximum_kernel": 3, "max_per_img": 20}
YOLOX_TEST = {"score_thr": 0.05, "nms": {"type": "nms", "iou_threshold": 0.65}}


def tood(**more: Any) -> dict[str, Any]:
    head = tower(
        "TOODHead", anchor_generator=ANCHOR, bbox_coder=DELTAS, loss_bbox=GIOU, **more,
        initial_loss_cls={**FOCAL, "activated": True}, loss_cls={**QFL, "activated": True},
    )  # fmt: skip
    return model("TOOD", {**head, "stacked_convs": 2}, TOOD)


def retina(**parts: Any) -> dict[str, Any]:
    """RetinaNet's head on other backbones and necks."""
    return {**MODELS["RetinaNet"], **parts}


def resnet(**more: Any) -> dict[str, Any]:
    return {
        "type": "ResNet", "depth": 18, "stem_channels": 8, "base_channels": 8, "out_indices": (1, 2, 3),
        "norm_eval": False, "norm_cfg": BN, **more,
    }  # fmt: skip


def pyramid(kind: str, channels: list[int], **more: Any) -> dict[str, Any]:
    return {"type": kind, "in_channels": channels, "out_channels": 16, "num_outs": 3, **more}


def in_a_row(*necks: dict[str, Any]) -> dict[str, Any]:
    return {"type": "NeckSequence", "necks": list(necks)}


def ssd_vgg(l2_norm_scale: float | None) -> dict[str, Any]:
    return model("SingleStageDetector", {
        "type": "SSDHead", "num_classes": 3, "in_channels": (512, 1024, 16), "anchor_generator": SSD_ANCHORS,
        "bbox_coder": DELTAS,
    }, SSD_TRAIN, {**TEST, "score_thr": 0.1}, backbone={
        "type": "SSDVGG", "depth": 11, "with_last_pool": False, "ceil_mode": True, "out_indices": (3, 4),
        "out_feature_indices": (14, 24)}, neck={
        "type": "SSDNeck", "in_channels": (512, 1024), "out_channels": (512, 1024, 16), "level_strides": (2,),
        "level_paddings": (1,), "l2_norm_scale": l2_norm_scale})  # fmt: skip


HEADS: dict[str, dict[str, Any]] = {
    "PAA": model("PAA", tower(
        "PAAHead", anchor_generator=ANCHOR, bbox_coder=DELTAS, loss_cls=FOCAL, loss_bbox={**GIOU, "loss_weight": 1.3},
        loss_centerness=BINARY, reg_decoded_bbox=True, score_voting=True, topk=9), PAA),
    "LAD": model("PAA", tower(
        "LADHead", anchor_generator=ANCHOR, bbox_coder=DELTAS, loss_cls=FOCAL, loss_bbox={**GIOU, "loss_weight": 1.3},
        loss_centerness=BINARY, reg_decoded_bbox=True, score_voting=False, topk=9), PAA),
    "TOOD": tood(),
    "TOOD of anchors": tood(anchor_type="anchor_based"),
    "CenterNet": model("CenterNet", {
        "type": "CenterNetHead", "num_classes": 3, "in_channels": 8, "feat_channels": 8,
    }, None, KEYPOINTS, backbone=resnet(out_indices=(0, 1, 2, 3)), neck={
        "type": "CTResNetNeck", "in_channels": 64, "num_deconv_filters": (16, 12, 8), "num_deconv_kernels": (4, 4, 4),
        "use_dcn": False}),
    "CenterNet with an update": model("CenterNet", tower(
        "CenterNetUpdateHead", strides=STRIDES, regress_ranges=((0, 32), (32, 64), (64, 1e8)))),
    "YOLOF with its encoder": model("YOLOF", {
        "type": "YOLOFHead", "num_classes": 3, "in_channels": 16, "reg_decoded_bbox": True,
        "anchor_generator": {"type": "AnchorGenerator", "ratios": [1.0], "scales": [1, 2, 4], "strides": [32]},
        "bbox_coder": {**DELTAS, "target_stds": [1.0] * 4, "add_ctr_clamp": True, "ctr_clamp": 32},
        "loss_cls": FOCAL, "loss_bbox": GIOU,
    }, {"assigner": {"type": "UniformAssigner", "pos_ignore_thr": 0.15, "neg_ignore_thr": 0.7}, "allowed_border": -1,
        "pos_weight": -1}, backbone=resnet(out_indices=(3,)),
        neck={"type": "DilatedEncoder", "in_channels": 64, "out_channels": 16, "block_mid_channels": 8,
              "num_residual_blocks": 2, "block_dilations": [2, 4]}),
    "SABL": model("RetinaNet", {
        "type": "SABLRetinaHead", **BARE, **SQUARES, "loss_cls": FOCAL,
        "bbox_coder": {"type": "BucketingBBoxCoder", "num_buckets": 14, "scale_factor": 3.0},
    }, {**RETINA, "assigner": APPROX}),
    "PISA": model("RetinaNet", {**RETINA_HEAD, "type": "PISARetinaHead", "loss_bbox": {"type": "SmoothL1Loss"}},
                  {**RETINA, "isr": {"k": 2.0, "bias": 0.0}, "carl": {"k": 1.0, "bias": 0.2}}),
    "FreeAnchor": model("RetinaNet", {
        **RETINA_HEAD, "type": "FreeAnchorRetinaHead", "loss_bbox": {"type": "SmoothL1Loss", "beta": 0.11}}, None),
    "GHM": model("RetinaNet", {
        **RETINA_HEAD,
        "loss_cls": {"type": "GHMC", "bins": 30, "momentum": 0.75, "use_sigmoid": True, "loss_weight": 1.0},
        "loss_bbox": {"type": "GHMR", "mu": 0.02, "bins": 10, "momentum": 0.7, "loss_weight": 10.0},
    }, RETINA),
    "RTMDet of levels": model("RTMDet", {
        "type": "RTMDetSepBNHead", **TOWER, "anchor_generator": POINTS, "loss_cls": QFL, "loss_bbox": GIOU,
        "bbox_coder": {"type": "DistancePointBBoxCoder"}, "with_objectness": False, "share_conv": False,
        "pred_kernel_size": 1, "act_cfg": {"type": "SiLU", "inplace": True},
    }, RTM),
    "RTMDet with objectness": model("RTMDet", {
        "type": "RTMDetHead", **TOWER, "anchor_generator": POINTS, "loss_cls": QFL, "loss_bbox": GIOU,
        "bbox_coder": {"type": "DistancePointBBoxCoder"}, "with_objectness": True, "act_cfg": {"type": "ReLU"},
    }, RTM),
}  # fmt: skip
"""Other heads."""

SWISH = {"type": "Swish"}
PARTS: dict[str, dict[str, Any]] = {
    "ResNet": retina(backbone=resnet(), neck=pyramid("FPN", [16, 32, 64])),
    "extra levels": retina(
        backbone=resnet(), neck=pyramid("FPN", [16, 32, 64], start_level=1, add_extra_convs="on_output",
                                        relu_before_extra_convs=True),
        bbox_head={**RETINA_HEAD, "anchor_generator": {**ANCHORS, "strides": [16, 32, 64]}}),
    "bilinear": retina(neck=pyramid("FPN", CHANNELS, upsample_cfg={"mode": "bilinear"})),
    "BFP with a convolution": retina(neck=in_a_row(pyramid("FPN", CHANNELS), {
        "type": "BFP", "in_channels": 16, "num_levels": 3, "refine_level": 1, "refine_type": "conv"})),
    "SepBN on NASFPN": retina(
        backbone=resnet(out_indices=(1, 2, 3)), neck=pyramid("NASFPN", [16, 32, 64], num_outs=5, stack_times=1,
                                                             norm_cfg=BN),
        bbox_head={**MODELS["RetinaNet of norms"]["bbox_head"], "num_ins": 5,
                   "anchor_generator": {**ANCHORS, "strides": [8, 16, 32, 64, 128]}}),
    "SSD with VGG": ssd_vgg(None),
    "SSDLite": model("SingleStageDetector", {
        "type": "SSDHead", "num_classes": 3, "in_channels": (16, 1280, 24), "use_depthwise": True, "norm_cfg": BN,
        "act_cfg": {"type": "ReLU6"}, "anchor_generator": {**SSD_ANCHORS, "strides": [16, 32, 64]},
        "bbox_coder": DELTAS,
    }, SSD_TRAIN, {**TEST, "score_thr": 0.1},
        backbone={"type": "MobileNetV2", "widen_factor": 0.125, "out_indices": (4, 7)},
        neck={"type": "SSDNeck", "in_channels": (16, 1280), "out_channels": (16, 1280, 24), "level_strides": (2,),
              "level_paddings": (1,), "l2_norm_scale": None, "use_depthwise": True, "norm_cfg": BN,
              "act_cfg": {"type": "ReLU6"}}),
    "YOLOX with a Focus": model("YOLOX", {
        "type": "YOLOXHead", **TOWER, "strides": STRIDES, "act_cfg": SWISH,
    }, YOLOX_TRAIN, YOLOX_TEST, backbone={
        "type": "CSPDarknet", "deepen_factor": 0.33, "widen_factor": 0.125, "out_indices": (2, 3, 4)},
        neck={"type": "YOLOXPAFPN", "in_channels": [32, 64, 128], "out_channels": 16, "num_csp_blocks": 1}),
    "YOLOX-nano": model("YOLOX", {
        "type": "YOLOXHead", **TOWER, "strides": STRIDES, "act_cfg": {"type": "ReLU6"}, "use_depthwise": True,
    }, YOLOX_TRAIN, YOLOX_TEST, backbone={
        "type": "CSPDarknet", "deepen_factor": 0.33, "widen_factor": 0.125, "use_depthwise": True,
        "act_cfg": {"type": "ReLU6"}},
        neck={"type": "YOLOXPAFPN", "in_channels": [32, 64, 128], "out_channels": 16, "num_csp_blocks": 1,
              "use_depthwise": True, "act_cfg": {"type": "ReLU6"}}),
    "PicoDet with LCNet": {
        **MODELS["PicoDet"], "backbone": {"type": "LCNet", "widen_factor": 0.25, "activation": "ReLU6"},
        "bbox_head": {**MODELS["PicoDet"]["bbox_head"], "align": False}},
    "PicoDet with ESNet": {
        **MODELS["PicoDet of the first release"],
        "backbone": {"type": "ESNet", "widen_factor": 0.25, "channel_ratio": (0.5,) * 13}},
    "NanoDet-Plus": {
        "type": "NanoDetPlus", "preprocessor": {"type": "DetDataPreprocessor"},
        "backbone": {"type": "ShuffleNetV2", "model_size": "0.5x", "activation": "ReLU6"},
        "neck": {"type": "GhostPAN", "out_channels": 16, "activation": "ReLU6"},
        "bbox_head": {"type": "NanoDetPlusHead", "num_classes": 3, "feat_channels": 16, "activation": "ReLU6"},
        "train_cfg": {"assigner": {"type": "DynamicSoftLabelAssigner"}}, "test_cfg": TEST,
    },
    "RTMDet with CSPNeXt": model("RTMDet", MODELS["RTMDet"]["bbox_head"], RTM, backbone={
        "type": "CSPNeXt", "deepen_factor": 0.167, "widen_factor": 0.125, "channel_attention": True, "norm_cfg": BN,
        "act_cfg": {"type": "SiLU", "inplace": True}},
        neck={"type": "CSPNeXtPAFPN", "in_channels": [32, 64, 128], "out_channels": 16, "num_csp_blocks": 1,
              "expand_ratio": 0.5, "norm_cfg": BN, "act_cfg": {"type": "SiLU", "inplace": True}}),
}  # fmt: skip
"""Other backbones and necks."""

TRANSFORMERS = {
    "SwinTransformer": "depths", "PyramidVisionTransformer": "num_layers", "PyramidVisionTransformerV2": "num_layers",
}  # fmt: skip
"""What each calls the numbers of its blocks."""
REFUSED: dict[str, dict[str, Any]] = {
    "DDOD as it is": MODELS["DDOD"],
    "NASFCOS": model("NASFCOS", {
        "type": "NASFCOSHead", **{k: v for k, v in TOWER.items() if k != "stacked_convs"}, "strides": STRIDES,
        "regress_ranges": ((-1, 32), (32, 64), (64, 1e8)), "conv_cfg": None}),
    "GuidedAnchors": model("RetinaNet", {"type": "GARetinaHead", **BARE, "feat_channels": 16, **SQUARES}, {
        **RETINA, "ga_assigner": {**APPROX, "min_pos_iou": 0.4}, "center_ratio": 0.2, "ignore_ratio": 0.5,
        "ga_sampler": {"type": "RandomSampler", "num": 64, "pos_fraction": 0.5, "neg_pos_ub": -1,
                       "add_gt_as_proposals": False}}),
    "RepPoints": model("RepPointsDetector", tower(
        "RepPointsHead", point_feat_channels=16, point_strides=STRIDES), {
        "init": {"assigner": {"type": "PointAssigner", "scale": 4, "pos_num": 1}, "pos_weight": -1},
        "refine": {"assigner": RETINA["assigner"], "pos_weight": -1}}),
    "VFNet": model("VFNet", tower(
        "VFNetHead", strides=STRIDES, regress_ranges=((-1, 32), (32, 64), (64, 1e8)),
        anchor_generator={**ANCHOR, "center_offset": 0.0}), {**ATSS}),
    "CornerNet": model("CornerNet", {
        "type": "CornerHead", "num_classes": 3, "in_channels": 16, "num_feat_levels": 1, "corner_emb_channels": 1,
    }, None, {"corner_topk": 20, "local_maximum_kernel": 3, "distance_threshold": 0.5, "score_thr": 0.05,
              "max_per_img": 20, "nms": {"type": "soft_nms", "iou_threshold": 0.5, "method": "gaussian"}},
        backbone={"type": "HourglassNet", "downsample_times": 2, "num_stacks": 1, "stage_channels": [16, 16, 24],
                  "stage_blocks": [1, 1, 1], "feat_channel": 16, "norm_cfg": BN}, neck=None),
    "FCOS with group norms": model("FCOS", {
        **MODELS["FCOS"]["bbox_head"], "norm_cfg": {"type": "GN", "num_groups": 4}}),
    "FCOS with a deformable layer": model("FCOS", {**MODELS["FCOS"]["bbox_head"], "dcn_on_last_conv": True}),
    "SSD with L2Norm": ssd_vgg(20.0),
    "CenterNet with deformable layers": {**HEADS["CenterNet"], "neck": {**HEADS["CenterNet"]["neck"], "use_dcn": True}},
    "CARAFE": retina(neck=pyramid("FPN_CARAFE", CHANNELS)),
    "ResNeSt": retina(
        backbone=resnet(type="ResNeSt", depth=50, base_channels=8, radix=2, reduction_factor=4),
        neck=pyramid("FPN", [64, 128, 256])),
    "a block of global context": retina(
        backbone=resnet(depth=50, base_channels=4, plugins=[
            {"cfg": {"type": "ContextBlock", "ratio": 0.25}, "stages": (False, True, False, False),
             "position": "after_conv3"}]), neck=pyramid("FPN", [32, 64, 128])),
    **{
        kind: retina(
            backbone={"type": kind, "embed_dims": 8, depths: (1, 1, 2, 1), "num_heads": (1, 2, 4, 8),
                      "out_indices": (1, 2, 3)}, neck=pyramid("FPN", [16, 32, 64]))
        for kind, depths in TRANSFORMERS.items()
    },
    "DyHead": retina(neck=in_a_row(pyramid("FPN", CHANNELS), {
        "type": "DyHead", "in_channels": 16, "out_channels": 16, "num_blocks": 1})),
}  # fmt: skip
"""What has no integers as a whole."""

DDOD = {**MODELS["DDOD"], "bbox_head": {**MODELS["DDOD"]["bbox_head"], "use_dcn": False}}
ROADS: dict[str, dict[str, Any]] = {**MODELS, "DDOD": DDOD, **HEADS, **PARTS}
"""What becomes integers."""
SIZES = {
    "SepBN on NASFPN": (128, 128), "NanoDet-Plus": (128, 192),
    **dict.fromkeys([name for name in ROADS if "PicoDet" in name], (128, 192)),
}  # fmt: skip
"""Height and width of a picture, where it is not (64, 96)."""


SETTLED = ("CenterNet", "NanoDet-Plus")
"""Whose normalization has seen pictures: with first statistics a deep network of few channels says the same of all."""


def build(name: str) -> Any:
    """The model, with weights that say something of every picture: numbers of a prediction deviate by about 1."""
    found = of({**ROADS, **REFUSED}[name])
    seen: set[int] = set()

    def widen(module: nn.Conv2d, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        if id(module) not in seen:
            seen.add(id(module))
            module.weight.div_(output.std().clamp(min=1e-6))
            nn.init.uniform_(module.bias, -1, 0)  # type: ignore[arg-type]

    images = torch.rand(1, 3, *SIZES.get(name, (64, 96))) * 255
    if name in SETTLED:
        with torch.no_grad():
            for _ in range(30):
                found.train().network()(images)
    last = [m for m in found.head.modules() if type(m) is nn.Conv2d and m.bias is not None]
    hooks = [module.register_forward_hook(widen) for module in last]
    with torch.no_grad():
        found.eval().network()(images)
    for hook in hooks:
        hook.remove()
    return found
