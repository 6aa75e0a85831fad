"""The ``model`` of a config in MMDetection's vocabulary as hatdet's RetinaNet."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from hatdet.config.mmdetection.network.pretrained import local_file
from hatdet.config.mmdetection.reader import Reader


def translate_model(
    config: Mapping[str, Any], pixels: Mapping[str, Any]
) -> tuple[dict[str, Any], str | None, bool]:
    """hatdet's model dict, the file of pretrained weights, and whether the backbone's batch norms are frozen.

    Args:
        config: ``dict(type='RetinaNet', backbone=..., neck=..., bbox_head=..., train_cfg=..., test_cfg=...)``.
        pixels: ``mean``, ``std``, ``bgr_to_rgb`` and ``input_color`` of the validation pipeline.

    Raises:
        ConfigError: what has no counterpart, with its path.
    """
    reader = Reader(copy.deepcopy(dict(config)), "model")
    reader.one_of("type", ("RetinaNet",))
    pretrained = reader.take("pretrained", str, None)
    backbone = reader.reader("backbone")
    init = backbone.take("init_cfg", dict, None)
    norm = Reader(dict(backbone.take("norm_cfg", dict, {})), "model.backbone.norm_cfg")
    norm.one_of("type", ("BN", "SyncBN"), "BN")
    trainable = norm.take("requires_grad", bool, True)
    norm.finish()
    if init is not None:
        inner = Reader(dict(init), "model.backbone.init_cfg")
        inner.one_of("type", ("Pretrained",))
        pretrained = inner.take("checkpoint", str)
        inner.finish()
    head = _head(reader.reader("bbox_head"))
    matcher = _matcher(reader.reader("train_cfg"))
    post_process = _post_process(reader.reader("test_cfg"))
    neck = reader.take("neck", dict)
    reader.finish()
    classes = head["parts"]["num_classes"]
    encoder = {"type": "OneHotClassEncoder", "num_classes": classes + 1}
    label_encoder = {"type": "MatchLabelSepEncoder", "bbox_encoder": head["coder"], "class_encoder": encoder}
    model = {
        "type": "RetinaNet",
        "backbone": backbone.values,
        "neck": neck,
        "head": {"type": "RetinaNetHead", **head["parts"]},
        "anchors": head["anchors"],
        "targets": {"type": "BBoxTargetGenerator", "matcher": matcher, "label_encoder": label_encoder},
        "post_process": post_process,
        "loss_cls": head["loss_cls"],
        "loss_reg": head["loss_reg"],
        "preprocessor": {"type": "DataPreprocessor", **{k: v for k, v in pixels.items() if k != "input_color"}},
        "input_color": pixels["input_color"],
    }
    return model, local_file(pretrained) if pretrained else None, not trainable


def _head(reader: Reader) -> dict[str, Any]:
    reader.one_of("type", ("RetinaHead",))
    anchors = reader.reader("anchor_generator")
    anchors.one_of("type", ("AnchorGenerator",))
    octave, per_octave = anchors.take("octave_base_scale", (int, float)), anchors.take("scales_per_octave", int)
    ratios, strides = anchors.take("ratios", (list, tuple)), anchors.take("strides", (list, tuple))
    anchors.finish()
    coder = reader.reader("bbox_coder", {"type": "DeltaXYWHBBoxCoder"})
    coder.one_of("type", ("DeltaXYWHBBoxCoder",))
    means = coder.take("target_means", (list, tuple), (0.0,) * 4)
    stds = coder.take("target_stds", (list, tuple), (1.0,) * 4)
    coder.finish()
    cls, reg = reader.reader("loss_cls"), reader.reader("loss_bbox")
    cls.one_of("type", ("FocalLoss",))
    cls.one_of("use_sigmoid", (True,), True)
    loss_cls = {"type": "FocalLossV2", "gamma": cls.take("gamma", (int, float), 2.0)}
    loss_cls["alpha"] = cls.take("alpha", (int, float), 0.25)
    loss_cls["loss_weight"] = cls.take("loss_weight", (int, float), 1.0)
    cls.finish()
    kind = reg.one_of("type", ("L1Loss", "SmoothL1Loss"))
    beta = reg.take("beta", (int, float), 1.0) if kind == "SmoothL1Loss" else 0.0
    loss_reg = {"type": "SmoothL1Loss", "beta": beta, "loss_weight": reg.take("loss_weight", (int, float), 1.0)}
    reg.finish()
    parts = {
        "num_classes": reader.take("num_classes", int),
        "in_channels": reader.take("in_channels", int, None),
        "num_anchors": len(ratios) * per_octave,
        "stacked_convs": reader.take("stacked_convs", int, 4),
        "feat_channels": reader.take("feat_channels", int, 256),
    }
    reader.finish()
    return {
        "parts": parts,
        "coder": {"type": "XYWHBBoxEncoder", "reg_mean": list(means), "reg_std": list(stds)},
        "anchors": {
            "type": "AnchorGenerator",
            "feat_strides": list(strides),
            "scales": [2 ** (i / per_octave) for i in range(per_octave)],
            "ratios": list(ratios),
            "base_sizes": [octave * stride for stride in strides],
        },
        "loss_cls": loss_cls,
        "loss_reg": loss_reg,
    }


def _matcher(reader: Reader) -> dict[str, Any]:
    assigner = reader.reader("assigner")
    assigner.one_of("type", ("MaxIoUAssigner",))
    matcher = {
        "type": "MaxIoUMatcher",
        "pos_iou": assigner.take("pos_iou_thr", (int, float)),
        "neg_iou": assigner.take("neg_iou_thr", (int, float)),
        "low_quality_iou": float(assigner.take("min_pos_iou", (int, float), 0.0)),
        "allow_low_quality_match": assigner.take("match_low_quality", bool, True),
    }
    assigner.one_of("ignore_iof_thr", (-1,), -1)
    assigner.finish()
    reader.one_of("allowed_border", (-1,), -1)
    reader.one_of("pos_weight", (-1,), -1)
    reader.take("debug", bool, False)
    reader.finish()
    return matcher


def _post_process(reader: Reader) -> dict[str, Any]:
    nms = reader.reader("nms")
    nms.one_of("type", ("nms",))
    result = {
        "type": "RetinaNetPostProcess",
        "score_thresh": reader.take("score_thr", (int, float)),
        "nms_thresh": nms.take("iou_threshold", (int, float)),
        "detections_per_img": reader.take("max_per_img", int),
        "topk_candidates": reader.take("nms_pre", int),
    }
    nms.finish()
    reader.one_of("min_bbox_size", (0,), 0)
    reader.finish()
    return result
