"""Heads of points, of quality and of corners: pictures without boxes, and pictures that are not square."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from hatdet.models.mmdet.heads.base import DenseHead, Truth
from hatdet.quantization.tracing.trace import unsupported_operators
from tests.helpers.components import made

GROUPS = {"norm_cfg": {"type": "GN", "num_groups": 4}}
SMALL = {"num_classes": 3, "in_channels": 8, "feat_channels": 8, "stacked_convs": 2, **GROUPS}
STRIDES = {"strides": [8, 16]}
RANGES = {"regress_ranges": [(-1, 32), (32, 1e8)]}
SQUARES = {"anchor_generator": {"type": "AnchorGenerator", "ratios": [1.0], "octave_base_scale": 4,
                                "scales_per_octave": 1, "strides": [8, 16]}}  # fmt: skip
ATSS = {"assigner": {"type": "ATSSAssigner", "topk": 4}, "allowed_border": -1, "pos_weight": -1}
SMOOTH = {"loss_bbox": {"type": "SmoothL1Loss", "beta": 0.11}}
GIOU = {"loss_bbox": {"type": "GIoULoss"}}
FOCAL = {"loss_cls": {"type": "FocalLoss", "use_sigmoid": True}}
QUALITY = {"loss_cls": {"type": "QualityFocalLoss", "use_sigmoid": True, "beta": 2.0}}
POINTS = {"anchor_generator": {"type": "MlvlPointGenerator", "offset": 0, "strides": [8, 16]},
          "bbox_coder": {"type": "DistancePointBBoxCoder"}}  # fmt: skip
SOFT = {"assigner": {"type": "DynamicSoftLabelAssigner", "topk": 4}, "allowed_border": -1, "pos_weight": -1}
MAX_IOU = {"type": "MaxIoUAssigner", "pos_iou_thr": 0.3, "neg_iou_thr": 0.3, "min_pos_iou": 0, "ignore_iof_thr": -1}
TOOD = {"initial_epoch": 4, "initial_assigner": ATSS["assigner"],
        "assigner": {"type": "TaskAlignedAssigner", "topk": 4}, "alpha": 1, "beta": 6,
        "allowed_border": -1, "pos_weight": -1}  # fmt: skip
REP = {"init": {"assigner": {"type": "PointAssigner", "scale": 4, "pos_num": 1}, "pos_weight": -1},
       "refine": {"assigner": MAX_IOU, "pos_weight": -1}}  # fmt: skip
TWO = {"num_classes": 3, "in_channels": 8, "num_feat_levels": 2}

HEADS: dict[str, dict[str, Any]] = {
    "FCOSHead": {**SMALL, **STRIDES, **RANGES, "norm_on_bbox": True, "center_sampling": True},
    "FoveaHead": {**SMALL, **STRIDES, **SMOOTH, "base_edge_list": [16, 32], "scale_ranges": [(1, 64), (32, 512)]},
    "FoveaHead deformable": {**SMALL, **STRIDES, **SMOOTH, "base_edge_list": [16, 32],
                             "scale_ranges": [(1, 64), (32, 512)], "with_deform": True},
    "RepPointsHead": {**SMALL, "point_feat_channels": 8, "point_strides": [8, 16], "train_cfg": REP},
    "RepPointsHead grid": {**SMALL, "point_feat_channels": 8, "point_strides": [8, 16], "use_grid_points": True,
                           "transform_method": "minmax", "train_cfg": {**REP, "init": REP["refine"]}},
    "RepPointsHead square": {**SMALL, "point_feat_channels": 8, "point_strides": [8, 16], "center_init": False,
                             "transform_method": "partial_minmax", "train_cfg": REP},
    "AutoAssignHead": {**SMALL, **STRIDES, **GIOU, "force_topk": True},
    "YOLOXHead": {"num_classes": 3, "in_channels": 8, "feat_channels": 8, "strides": [8, 16],
                  "train_cfg": {"assigner": {"type": "SimOTAAssigner"}}},
    "RTMDetHead": {**SMALL, **POINTS, **QUALITY, **GIOU, "train_cfg": SOFT},
    "RTMDetSepBNHead": {**SMALL, **POINTS, **QUALITY, **GIOU, "norm_cfg": {"type": "BN"}, "share_conv": False,
                        "exp_on_reg": True, "use_depthwise": True, "train_cfg": SOFT},
    "CenterNetHead": {"num_classes": 3, "in_channels": 8, "feat_channels": 8},
    "CenterNetUpdateHead": {**SMALL, **STRIDES, "regress_ranges": [(0, 40), (32, 1e9)]},
    "ATSSHead": {**SMALL, **SQUARES, **FOCAL, **GIOU, "train_cfg": ATSS},
    "GFLHead": {**SMALL, **SQUARES, **QUALITY, **GIOU, "reg_max": 8, "train_cfg": ATSS},
    "PAAHead": {**SMALL, **SQUARES, **FOCAL, **GIOU, "train_cfg": {**ATSS, "assigner": MAX_IOU}},
    "LADHead": {**SMALL, **SQUARES, **FOCAL, **GIOU, "train_cfg": {**ATSS, "assigner": MAX_IOU}},
    "VFNetHead": {**SMALL, **STRIDES, **SQUARES, **RANGES, "train_cfg": ATSS},
    "VFNetHead by ranges": {**SMALL, **STRIDES, **SQUARES, **RANGES, "use_atss": False, "use_vfl": False,
                            "bbox_norm_type": "stride"},
    "TOODHead": {**SMALL, **SQUARES, **GIOU, "train_cfg": TOOD, "loss_cls": {
        "type": "QualityFocalLoss", "use_sigmoid": True, "activated": True, "beta": 2.0}},
    "TOODHead by anchors": {**SMALL, **SQUARES, **GIOU, "anchor_type": "anchor_based", "num_dcn": 1,
                            "train_cfg": {**TOOD, "initial_epoch": 0}, "loss_cls": {
        "type": "QualityFocalLoss", "use_sigmoid": True, "activated": True, "beta": 2.0}},
    "DDODHead": {**SMALL, **SQUARES, **FOCAL, **GIOU, "train_cfg": {**ATSS, "reg_assigner": ATSS["assigner"]}},
    "CornerHead": TWO,
    "CentripetalHead": {**TWO, "corner_emb_channels": 0},
}  # fmt: skip
META: Any = {
    "img_shape": (96, 128), "pad_shape": (96, 128), "batch_input_shape": (96, 128), "ori_shape": (96, 128),
    "scale_factor": (1.0, 1.0),
}  # fmt: skip
BOXES = Truth(torch.tensor([[10.0, 12.0, 50.0, 60.0], [40.0, 8.0, 120.0, 90.0]]), torch.tensor([1, 2]))
NOTHING = Truth(torch.zeros((0, 4)), torch.zeros(0, dtype=torch.long))


def head_of(name: str) -> DenseHead:
    torch.manual_seed(0)
    return made(dict(HEADS[name]), name.split()[0])  # type: ignore[no-any-return]


def features(head: DenseHead, pictures: int) -> list[torch.Tensor]:
    torch.manual_seed(1)
    return [torch.randn(pictures, 8, 96 // s, 128 // s) for s in head.level_strides]


def losses_of(head: DenseHead, truths: list[Truth]) -> dict[str, torch.Tensor]:
    """Sums over the levels."""
    head.train()
    maps = head.outputs(features(head, len(truths)))
    found = head.loss_by_feat(*maps, truths=truths, metas=[META] * len(truths))
    return {k: torch.stack([v] if isinstance(v, torch.Tensor) else v).sum() for k, v in found.items()}


@pytest.mark.parametrize("name", HEADS)
def test_learns_of_pictures_with_boxes_and_without(name: str) -> None:
    head = head_of(name)
    names = set()
    for truths in ([BOXES, NOTHING], [NOTHING]):
        head.zero_grad()
        found = losses_of(head, truths)
        names.add(tuple(sorted(found)))
        assert all(bool(torch.isfinite(value)) for value in found.values()), found
        torch.stack(list(found.values())).sum().backward()  # type: ignore[no-untyped-call]
        gradients = [p.grad for p in head.parameters() if p.grad is not None]
        assert gradients and all(bool(torch.isfinite(g).all()) for g in gradients)
        if truths[0] is BOXES:  # every layer learns, but for those of levels that have no boxes
            assert all(p.grad is not None for p in head.parameters())
            assert sum(float(g.abs().sum()) > 0 for g in gradients) >= 0.7 * len(gradients)
    assert len(names) == 1


@pytest.mark.parametrize("name", HEADS)
def test_finds_boxes_in_one_picture(name: str) -> None:
    head = head_of(name).eval()
    cfg = {"score_thr": 0.0, "nms_pre": 50, "max_per_img": 10, "nms": {"type": "nms", "iou_threshold": 0.5},
           "distance_threshold": 1e9}  # fmt: skip
    with torch.no_grad():
        (found,) = head.predict_by_feat(*head.outputs(features(head, 1)), metas=[META], cfg=cfg, rescale=True)
    assert found["boxes"].shape == (len(found["scores"]), 4) and found["labels"].dtype == torch.int64
    assert bool((found["scores"][:-1] >= found["scores"][1:]).all())
    assert bool(((found["labels"] >= 0) & (found["labels"] < 3)).all())


@pytest.mark.parametrize("name", HEADS)
def test_raw_maps_have_names(name: str) -> None:
    head = head_of(name)
    raw = head(features(head, 1))
    assert len(raw) == len(head.output_names) == len(set(head.output_names))
    assert len(raw) == len(head.kinds) * len(head.level_strides)


class Networked(nn.Module):
    """A head behind a convolution of each level."""

    def __init__(self, head: DenseHead) -> None:
        super().__init__()
        self.head = head
        self.levels = nn.ModuleList([nn.Conv2d(3, 8, 1, stride=stride) for stride in head.level_strides])

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.head([level(x) for level in self.levels])  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "name", ["FCOSHead", "YOLOXHead", "RTMDetHead", "CenterNetHead", "ATSSHead", "GFLHead", "TOODHead"]
)
def test_has_an_integer_form(name: str) -> None:
    args = {**HEADS[name], **({"norm_cfg": {"type": "BN"}} if "norm_cfg" in HEADS[name] else {})}
    assert unsupported_operators(Networked(made(args, name)).eval()) == []


def test_a_predictor_of_normed_weights() -> None:
    given = {"type": "NormedLinear", "tempearture": 50, "bias": True}
    args = HEADS["FCOSHead"]
    head = made({**args, "cls_predictor_cfg": given}, "FCOSHead")
    assert type(head.conv_cls).__name__ == "NormedConv2d" and head.conv_cls.tempearture == 50
    assert tuple(head.conv_cls.weight.shape) == (args["num_classes"], args["feat_channels"], 1, 1)
    x = torch.randn(1, args["feat_channels"], 2, 2)
    with torch.no_grad():
        head.conv_cls.bias.zero_()
        assert float(head.conv_cls(x).abs().max()) <= 50  # a cosine, times its factor
    assert given["type"] == "NormedLinear"


def test_stacks_of_points_have_no_offsets_and_no_biases_of_their_own() -> None:
    args = HEADS["RepPointsHead"]
    told = made({**args, "dcn_on_last_conv": True, "conv_bias": True}, "RepPointsHead")
    assert list(told.state_dict()) == list(made(dict(args), "RepPointsHead").state_dict())
