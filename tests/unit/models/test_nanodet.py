"""NanoDet-Plus: maps, boxes and losses that can be worked out by hand, the neck, and names of parameters."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from hatdet.models.light.nanodet import NanoDetPlusHead
from hatdet.models.mmdet.assigners.dynamic_k import DynamicSoftLabelAssigner
from hatdet.models.mmdet.heads.base import Truth
from hatdet.models.necks.ghost_pan import GhostPAN

STRIDES = (8, 16)
METAS: list[Any] = [{"img_shape": (16, 16), "pad_shape": (16, 16), "scale_factor": (1.0, 1.0)}]


def head(**options: Any) -> NanoDetPlusHead:
    torch.manual_seed(0)
    given = {"train_cfg": {"assigner": DynamicSoftLabelAssigner()}, "test_cfg": {"score_thr": 0.05, "nms_pre": 10}}
    return NanoDetPlusHead(
        **{"num_classes": 2, "in_channels": 8, "feat_channels": 8, "strides": STRIDES, **given, **options}
    )


def maps(where: tuple[int, int], distances: tuple[int, ...], label: int) -> tuple[list[Tensor], list[Tensor]]:
    """Of a picture of 16 x 16: at the cell (row, column) of the finest level surely a box, elsewhere surely nothing."""
    scores = [torch.full((1, 2, side, side), -20.0) for side in (2, 1)]
    edges = [torch.zeros(1, 32, side, side) for side in (2, 1)]
    row, column = where
    scores[0][0, label, row, column] = 20.0
    for side, distance in enumerate(distances):
        edges[0][0, side * 8 + distance, row, column] = 60.0
    return scores, edges


def test_a_box_reaches_from_the_corner_of_its_cell() -> None:
    (found,) = head(test_cfg={"score_thr": 0.5, "nms_pre": 10, "nms": {"type": "nms", "iou_threshold": 0.5}}).predict(
        *maps((1, 1), (1, 0, 0, 1), 1), metas=METAS
    )
    assert found["boxes"].tolist() == [[0.0, 8.0, 8.0, 16.0]]  # the point is (8, 8): 8 to the left, 8 down
    assert found["labels"].tolist() == [1] and found["scores"][0] > 0.999


def test_what_is_right_costs_nothing_and_what_is_wrong_does() -> None:
    model = head()
    truth = [Truth(torch.tensor([[0.0, 4.0, 16.0, 16.0]]), torch.tensor([1]))]
    edges = (1, 0, 1, 1)  # from (8, 8): the box (0, 8, 16, 16)
    right = [Truth(torch.tensor([[0.0, 7.9, 16.0, 16.0]]), torch.tensor([1]))]
    losses = {
        name: float(v) for name, v in model.loss_by_feat(*maps((1, 1), edges, 1), truths=right, metas=METAS).items()
    }
    assert losses["loss_cls"] < 1e-3 and losses["loss_bbox"] < 0.04
    other = {
        name: float(v) for name, v in model.loss_by_feat(*maps((1, 1), edges, 1), truths=truth, metas=METAS).items()
    }
    # GIoU of (0, 8, 16, 16) and (0, 4, 16, 16) is 2/3, weighted by 2; half a stride above the point: log 1 and log e^60
    assert other["loss_bbox"] == pytest.approx(2 * (1 - 2 / 3), abs=1e-4)
    assert other["loss_dfl"] == pytest.approx(0.25 * 0.5 * 60 / 4, abs=1e-3)


def test_a_picture_without_boxes_teaches_classes_alone() -> None:
    model = head()
    feats = [torch.randn(2, 8, side, side) for side in (2, 1)]
    nothing = [Truth(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))] * 2
    with torch.no_grad():
        losses = model.loss_by_feat(*model.levels(model(feats)), truths=nothing, metas=METAS * 2)
    assert float(losses["loss_bbox"]) == float(losses["loss_dfl"]) == 0 and float(losses["loss_cls"]) > 0  # type: ignore[arg-type]


def test_first_scores_are_small_and_names_are_the_project_s() -> None:
    model = head().eval()
    assert model.output_names == ("cls_8", "cls_16", "bbox_8", "bbox_16")
    found = model([torch.randn(1, 8, side, side) for side in (4, 2)])
    assert [tuple(m.shape) for m in found] == [(1, 2, 4, 4), (1, 2, 2, 2), (1, 32, 4, 4), (1, 32, 2, 2)]
    assert all(torch.allclose(m.sigmoid(), torch.full_like(m, 0.01), atol=1e-3) for m in found[:2])
    names = set(model.state_dict())
    assert {
        "cls_convs.1.0.depthwise.weight",
        "cls_convs.0.1.pwnorm.bias",
        "gfl_cls.1.bias",
        "gfl_reg.0.weight",
    } <= names


def test_the_neck_s_maps_and_names() -> None:
    torch.manual_seed(0)
    neck = GhostPAN(in_channels=(6, 10, 12), out_channels=8, num_blocks=2).eval()
    sizes = ((8, 12), (4, 6), (2, 3))
    found = neck([torch.randn(1, c, *size) for c, size in zip((6, 10, 12), sizes, strict=True)])
    assert [tuple(m.shape[1:]) for m in found] == [(8, 8, 12), (8, 4, 6), (8, 2, 3), (8, 1, 2)]
    assert neck.output_strides((8, 16, 32)) == (8, 16, 32, 64)
    names = set(neck.state_dict())
    assert {"reduce_layers.2.conv.weight", "top_down_blocks.0.blocks.0.ghost1.primary_conv.0.weight"} <= names
    assert {"bottom_up_blocks.1.blocks.0.shortcut.2.weight", "extra_lvl_in_conv.0.depthwise.weight"} <= names
    assert "top_down_blocks.0.blocks.1.shortcut.0.weight" not in names  # as many channels: the identity


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"in_channels": (8,)}, "in_channels needs at least two maps to mix, got \\[8\\]"),
        (
            {"in_channels": (8, 16), "out_channels": 9},
            "a ghost module makes its channels in two halves, got out_channels=9",
        ),
    ],
)
def test_what_the_neck_does_not_take(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        GhostPAN(**options)
