"""Defaults, limits, ties and single steps of assigners, priors, coders, losses and post-processing, by hand."""

from __future__ import annotations

import inspect
import logging
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from hatdet.models.losses.focal_loss import FocalLossV2
from hatdet.models.losses.iou_loss import GIoULoss
from hatdet.models.losses.quality_focal_loss import QualityFocalLoss
from hatdet.models.losses.smooth_l1_loss import SmoothL1Loss
from hatdet.models.task_modules import dynamic_soft_label_assigner as assigner
from hatdet.models.task_modules.anchor_coverage import AnchorCoverage
from hatdet.models.task_modules.anchors import AnchorGenerator
from hatdet.models.task_modules.dynamic_soft_label_assigner import DynamicSoftLabelAssigner
from hatdet.models.task_modules.encoders import MAX_LOG_RATIO, OneHotClassEncoder, XYWHBBoxEncoder
from hatdet.models.task_modules.max_iou_matcher import MaxIoUMatcher
from hatdet.models.task_modules.multi_stride_filter import RetinanetMultiStrideFilter
from hatdet.models.task_modules.post_process import RTMDetPostProcess
from hatdet.models.task_modules.preprocessor import DataPreprocessor
from hatdet.models.task_modules.priors import MlvlPointGenerator
from hatdet.models.task_modules.retinanet_post_process import RetinaNetPostProcess
from hatdet.models.task_modules.target_generator import AnchorTargets, BBoxTargetGenerator, MatchLabelSepEncoder
from hatdet.ops.nms import batched_nms


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (DynamicSoftLabelAssigner, {"topk": 13, "iou_weight": 3.0, "soft_center_radius": 3.0}),
        (MaxIoUMatcher, {"allow_low_quality_match": True, "low_quality_iou": 0.0}),
        (AnchorGenerator, {"base_sizes": None, "round_anchor": False, "center_offset": 0.0}),
        (MlvlPointGenerator, {"offset": 0.0}),
        (XYWHBBoxEncoder, {"reg_mean": (0.0, 0.0, 0.0, 0.0), "reg_std": (1.0, 1.0, 1.0, 1.0),
                           "max_log_ratio": MAX_LOG_RATIO}),
        (OneHotClassEncoder, {"class_agnostic_neg": True, "exclude_background": True}),
        (RTMDetPostProcess, {"score_thr": 0.001, "nms_pre": 30000, "iou_threshold": 0.65, "max_per_img": 300,
                             "multi_label": True, "nms_type": "nms", "soft_nms_sigma": 0.5,
                             "soft_nms_min_score": 0.001}),
        (RetinaNetPostProcess, {"score_thresh": 0.05, "nms_thresh": 0.5, "detections_per_img": 300,
                                "topk_candidates": 1000}),
        (DataPreprocessor, {"bgr_to_rgb": False}),
        (FocalLossV2, {"alpha": 0.25, "gamma": 2.0, "loss_weight": 1.0}),
        (GIoULoss, {"loss_weight": 1.0, "eps": 1e-6}),
        (QualityFocalLoss, {"beta": 2.0, "loss_weight": 1.0}),
        (SmoothL1Loss, {"beta": 1.0, "reduction": "mean", "loss_weight": 1.0}),
    ],
)  # fmt: skip
def test_defaults_are_those_of_published_configs(kind: Any, expected: dict[str, Any]) -> None:
    """A config that leaves an argument out trains and detects with these: they never change."""
    parameters = inspect.signature(kind).parameters.values()
    assert {p.name: p.default for p in parameters if p.default is not p.empty} == expected
    assert math.exp(MAX_LOG_RATIO) == pytest.approx(62.5)


# ------------------------------------------------------------------------------- the assigner, step by step
def rows_of(*images: int) -> assigner._Rows:
    count = len(images)
    return assigner._Rows(torch.tensor(images), torch.arange(count), torch.zeros(count, 4), torch.arange(count))


def test_rows_are_worked_on_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rows_of(0, 0, 0, 1, 1, 1, 1)
    monkeypatch.setattr(assigner, "_BLOCK", 35)
    blocks = list(rows.blocks(10))  # three rows of ten at once
    assert [part for part, _ in blocks] == [slice(0, 3), slice(3, 6), slice(6, 9)]
    assert [some.labels.tolist() for _, some in blocks] == [[0, 1, 2], [3, 4, 5], [6]]
    assert [part.start for part, _ in rows.blocks(36)] == [0, 1, 2, 3, 4, 5, 6]


def test_the_cost_by_hand() -> None:
    """Two priors of stride 4 and 8 for the box (0, 0, 12, 20), centre (6, 10), with IoU 0.5 and 0.

    The first is 5 pixels away (3, 4): 10 ** (1.25 - 3); the second 10 pixels: 10 ** (1.25 - 3) too.
    """
    rows = assigner._Rows(torch.tensor([0]), torch.tensor([0]), torch.tensor([[0.0, 0, 12, 20]]), torch.tensor([1]))
    logits = torch.tensor([[[0.0, 0.0], [0.0, 0.0]]])  # (B, C, K)
    columns = assigner._Columns(
        prior=torch.tensor([[0, 1]]),
        valid=torch.ones(1, 2, dtype=torch.bool),
        points=torch.tensor([[[9.0, 0.0]], [[14.0, 18.0]], [[4.0, 8.0]]]),
        boxes=torch.zeros(1, 4, 2),
        logits=logits,
        background=torch.full((1, 2), 2 * math.log(2) * 0.25),
    )
    ious = torch.tensor([[0.5, 0.0]])
    cost = DynamicSoftLabelAssigner(iou_weight=3.0, soft_center_radius=3.0)._cost(ious, rows, columns)
    other = math.log(2) * 0.25  # the class that the box does not have: entropy log 2 times (0 - 0.5) ** 2
    # Its own class: label 0.5 is what the score says; label 0 is 0.5 away from it.
    expected = [
        other + 0.0 - 3 * math.log(0.5 + 1e-7) + 10**-1.75,
        other + math.log(2) * 0.25 - 3 * math.log(1e-7) + 10**-1.75,
    ]
    assert cost[0].tolist() == pytest.approx(expected, rel=1e-6)


def test_which_pairs_a_box_takes() -> None:
    """k is the sum of the three best IoUs, truncated, at least 1; of equal costs the lower columns are taken."""
    inf = float("inf")
    ious = torch.tensor(
        [[0.9, 0.9, 0.3, 0.3], [1, 1, 0, 0.4], [1, 1, 1, 1], [0, 0, 0, 0], [0.9, 0.9, 0.9, 0.9], [0, 0, 1, 0]]
    )
    cost = torch.tensor([[1.0, 1, 1, 2], [3, 1, 3, 3], [2, 2, 2, 2], [4, 3, 3, 5], [1, 5, 2, 5], [inf, inf, 2, inf]])
    row, column = DynamicSoftLabelAssigner(topk=3)._cheapest(cost, ious, cost < inf)
    taken = [column[row == i].tolist() for i in range(6)]
    assert taken == [[0, 1], [0, 1], [0, 1, 2], [1], [0, 2], [2]]
    assert row.tolist() == sorted(row.tolist())
    row, column = DynamicSoftLabelAssigner(topk=13)._cheapest(cost, ious, cost < inf)
    assert [column[row == i].tolist() for i in range(6)] == [[0, 1], [0, 1], [0, 1, 2, 3], [1], [0, 1, 2], [2]]


def test_only_priors_that_several_boxes_of_an_image_took_change_hands() -> None:
    """Rows 0, 1 are image 0; 2, 3, 4 image 1. Everywhere another row would be cheaper, but only one took the prior."""
    rows = rows_of(0, 0, 1, 1, 1)
    cost = torch.tensor([[5.0, 5, 5], [1, 1, 1], [5, 5, 5], [1, 1, 1], [2, 2, 0]])
    everyone = [(0, 0), (0, 1), (0, 2), (2, 0), (2, 1), (2, 2)]
    for pairs in (everyone, everyone[1:4], everyone[::-1], [(0, 2), (2, 0)], [(0, 1), (2, 0)], [(0, 0), (2, 2)]):
        row, column = (torch.tensor(index) for index in zip(*pairs))
        assert assigner._resolve_conflicts(row, column, cost, rows, 3).tolist() == row.tolist()


def test_a_prior_that_several_took_goes_to_the_cheapest_row_of_its_image() -> None:
    rows = rows_of(0, 0, 2, 2, 2)  # image 1 has no box
    cost = torch.tensor([[5.0, 4], [6, 9], [3, 3], [2, 3], [2, 1]])
    row = torch.tensor([0, 1, 0, 2, 3, 4, 2, 4])
    column = torch.tensor([0, 0, 1, 0, 0, 0, 1, 1])
    # Prior 0 of image 0: row 0 (5 of 5, 6). Of image 2: rows 3 and 4 cost 2, the first has it. Its prior 1: row 4.
    assert assigner._resolve_conflicts(row, column, cost, rows, 4).tolist() == [0, 0, 0, 3, 3, 3, 4, 4]


def test_candidates_are_listed_in_order_and_filled_up() -> None:
    candidate = torch.tensor([[False, True, False, True], [False, False, True, False]])
    priors = torch.tensor([[i, 10 + i, 8, 8] for i in range(4)]).float()
    boxes = torch.arange(32).float().reshape(2, 4, 4)
    logits = torch.arange(16).float().reshape(2, 4, 2)
    columns = assigner._columns(candidate, priors, boxes, logits)
    assert columns.prior.tolist() == [[1, 3], [2, 0]] and columns.valid.tolist() == [[True, True], [True, False]]
    assert columns.points.tolist() == [[[1, 3], [2, 0]], [[11, 13], [12, 10]], [[8, 8], [8, 8]]]
    assert columns.boxes[0].tolist() == boxes[0, [1, 3]].T.tolist()
    assert columns.logits[1].tolist() == logits[1, [2, 0]].T.tolist()
    wanted = (torch.nn.functional.softplus(columns.logits) * columns.logits.sigmoid() ** 2).sum(dim=1)
    assert torch.allclose(columns.background, wanted)


def test_topk_of_one_is_allowed() -> None:
    assert DynamicSoftLabelAssigner(topk=1).topk == 1


# -------------------------------------------------------------------------------------- priors and anchors
def test_grids_are_made_once_for_the_same_sizes() -> None:
    for make in (MlvlPointGenerator(strides=(8, 16)).grid_priors,
                 AnchorGenerator(feat_strides=[8, 16], scales=[1], ratios=[1]).grid_priors):  # fmt: skip
        first: Any = make([(2, 3), (1, 2)])
        assert make(([2, 3], [1, 2])) is first
        other: Any = make([(2, 3), (2, 1)])
        assert other is not first and make([(2, 3), (1, 2)]) is not first


def test_anchor_offset_moves_both_coordinates() -> None:
    (level,) = AnchorGenerator(feat_strides=[8], scales=[1], ratios=[1], center_offset=0.25).level_priors([(2, 2)])
    assert level.tolist() == [[-2, -2, 6, 6], [6, -2, 14, 6], [-2, 6, 6, 14], [6, 6, 14, 14]]
    points = MlvlPointGenerator(strides=(8,), offset=0.25).grid_priors([(2, 2)])
    assert points[:, :2].tolist() == [[2, 2], [10, 2], [2, 10], [10, 10]]


# -------------------------------------------------------------------------------------------- matching
def test_matching_at_the_thresholds() -> None:
    """Overlaps of exactly 0.5, 0.25 and 0.125 of a box of 16 x 16."""
    anchors = torch.tensor([[0.0, 0, 16, 8], [0, 0, 8, 8], [0, 0, 4, 8]])
    box = torch.tensor([[0.0, 0, 16, 16]])
    match, best = MaxIoUMatcher(pos_iou=0.5, neg_iou=0.25, allow_low_quality_match=False)(anchors, box)
    assert match.tolist() == [0, -2, -1] and best.tolist() == [0.5]
    match, _ = MaxIoUMatcher(pos_iou=0.6, neg_iou=0.125, low_quality_iou=0.5)(anchors, box)
    assert match.tolist() == [0, -2, -2]
    match, _ = MaxIoUMatcher(pos_iou=0.6, neg_iou=0.125, low_quality_iou=0.51)(anchors, box)
    assert match.tolist() == [-2, -2, -2]
    for ious in ((0.0, 0.0, 1.0), (1.0, 1.0, 0.0), (0.5, 0.5, 1.0)):
        if ious[0]:
            MaxIoUMatcher(pos_iou=ious[0], neg_iou=ious[1], low_quality_iou=ious[2])


def test_an_ignored_anchor_names_the_box_it_resembles() -> None:
    anchors = torch.tensor([[0.0, 0, 10, 4.5], [20, 0, 30, 4.5], [40, 0, 50, 4.5], [60, 0, 70, 9]])
    boxes = torch.tensor([[0.0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10], [60, 0, 70, 10]])
    matcher = MaxIoUMatcher(pos_iou=0.5, neg_iou=0.4, allow_low_quality_match=False)
    match, _ = matcher(anchors, boxes)
    assert match.tolist() == [-2, -3, -4, 3]
    for agnostic, third in ((False, [0, -1, 0]), (True, [-1, -1, -1])):
        encoder = MatchLabelSepEncoder(
            bbox_encoder=XYWHBBoxEncoder(), class_encoder=OneHotClassEncoder(num_classes=4, class_agnostic_neg=agnostic)
        )
        columns, deltas = encoder(anchors, match, boxes, torch.tensor([0, 2, 1, 2]))
        assert columns[2].tolist() == third and columns[3].tolist() == [0, 0, 1] and deltas.shape == (1, 4)
        columns, deltas = encoder(anchors, torch.full((4,), -1), boxes[:0], torch.zeros(0, dtype=torch.int64))
        assert columns.abs().sum() == 0 and deltas.shape == (0, 4)


def test_targets_of_images_stand_one_after_another() -> None:
    anchors = torch.tensor([[0.0, 0, 10, 10], [20, 0, 30, 10]])
    generator = BBoxTargetGenerator(
        matcher=MaxIoUMatcher(pos_iou=0.5, neg_iou=0.4),
        label_encoder=MatchLabelSepEncoder(
            bbox_encoder=XYWHBBoxEncoder(), class_encoder=OneHotClassEncoder(num_classes=3)
        ),
    )
    boxes = torch.tensor([[[0.0, 0, 10, 10], [20, 0, 30, 5]], [[20, 0, 30, 4], [0, 0, 0, 0]]])
    result = generator(anchors, boxes, torch.tensor([[0, 1], [1, -1]]))
    assert result.num_boxes == 3 and int(result.covered) == 2  # IoU 1, 0.5 and 0.4
    assert result.positive.tolist() == [[True, True], [False, True]]  # 0.4 is the best that its box has
    assert result.classes.tolist() == [[[1, 0], [0, 1]], [[0, 0], [0, 1]]]
    assert result.deltas[:, 3].tolist() == pytest.approx([0, math.log(0.5), math.log(0.4)])


def coverage(*batches: tuple[int, int]) -> tuple[AnchorCoverage, list[str]]:
    """(boxes, covered) of each batch; what was logged."""
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("hatdet")
    logger.addHandler(handler)
    try:
        watch = AnchorCoverage(0.5)
        for boxes, covered in batches:
            watch.add(AnchorTargets(torch.empty(0), torch.empty(0), torch.empty(0), boxes, torch.tensor(covered)))
    finally:
        logger.removeHandler(handler)
    return watch, said


def test_anchors_that_do_not_fit_are_told_once() -> None:
    watch, said = coverage((0, 0), (4, 0), (4, 0))
    assert [line[:55] for line in said] == ["none of 4 boxes (0 %) overlap an anchor by IoU 0.5: cho"] and watch.done
    watch, said = coverage((4, 1), *[(4, 2)] * 30)
    assert said == [] and not watch.done and watch.batches == 31
    watch, said = coverage((4, 1), *[(4, 2)] * 31, (4, 0))
    assert [line[:31] for line in said] == ["63 of 128 boxes (49 %) overlap "] and watch.done and watch.batches == 32
    watch, said = coverage((4, 2), *[(4, 2)] * 31, (4, 0))  # half of them: enough
    assert said == [] and watch.done and watch.boxes == 128
    watch, said = coverage((4, 1), *[(4, 0)] * 30)  # the first batch had one
    assert said == [] and not watch.done


# ------------------------------------------------------------------------------------------ encoders
def test_encoder_limits_and_decoding_by_hand() -> None:
    encoder = XYWHBBoxEncoder(reg_mean=(0.1, 0.2, 0.3, 0.4), reg_std=(0.5, 0.5, 2.0, 2.0))
    anchor, deltas = torch.tensor([[10.0, 20, 30, 60]]), torch.tensor([[0.8, 0.6, -0.15, -0.2]])
    # d = (0.5, 0.5, 0, 0): the centre (20, 40) moves by half the sides (20, 40), which stay.
    assert encoder.decode(anchor, deltas)[0].tolist() == pytest.approx([20, 40, 40, 80], rel=1e-6)
    assert XYWHBBoxEncoder().decode(anchor, torch.tensor([[0, 0, 5.0, 0]]))[0].tolist() == pytest.approx(
        [20 - 625, 20, 20 + 625, 60], rel=1e-5
    )
    for bad in ({"reg_mean": (0, 0, 0)}, {"reg_std": (1, 1, 1)}, {"reg_std": (1, 1, 1, 0)}, {"reg_mean": (0,) * 5},
                {"reg_std": (1,) * 5}):  # fmt: skip
        with pytest.raises(ValueError, match="four numbers each"):
            XYWHBBoxEncoder(**bad)  # type: ignore[arg-type]
    assert OneHotClassEncoder(num_classes=2).num_columns == 1
    assert OneHotClassEncoder(num_classes=2)(torch.tensor([[1], [-1]])).tolist() == [[[1]], [[-1]]]
    assert OneHotClassEncoder(num_classes=3)(torch.tensor([0])).dtype == torch.int8


def test_the_filter_of_codes_at_its_ends() -> None:
    module = RetinanetMultiStrideFilter(strides=[8], threshold=1.0)
    assert module.code_threshold(1.0, 0) == 1 and module.code_threshold(1.0, 126) == 127
    assert module.code_threshold(1.0, 127) is None and module.code_threshold(1.0, -129) == -128
    assert module.code_threshold(1.0, -127) == -126
    for bad in (dict(strides=[], threshold=0.0), dict(strides=[8], threshold=float("inf"))):
        with pytest.raises(ValueError, match="one or more strides and a finite threshold"):
            RetinanetMultiStrideFilter(**bad)  # type: ignore[arg-type]


def test_three_equal_numbers_are_as_good_as_one() -> None:
    img = torch.tensor([0, 51, 255], dtype=torch.uint8)[None, :, None, None]
    x = DataPreprocessor(mean=(1.0, 1.0, 1.0), std=(2.0, 2.0, 2.0))(img)
    assert x.flatten().tolist() == [-0.5, 25, 127]
    assert DataPreprocessor(mean=(0.0, 0.0, 4.0), std=1)(img).flatten().tolist() == [0, 51, 251]
    assert DataPreprocessor(mean=0, std=2).extra_repr() == "mean=(0.0,), std=(2.0,), bgr_to_rgb=False"


# ----------------------------------------------------------------------------------------------- losses
@pytest.mark.parametrize("gamma", [1.5, 2.0, 3.0])
def test_focal_loss_at_one_logit(gamma: float) -> None:
    """p = 0.25: -0.25 * 0.75 ** gamma * log 0.25 for a positive, -0.75 * 0.25 ** gamma * log 0.75 for a negative."""
    logit = torch.tensor([0.25], dtype=torch.float64).logit()
    loss = FocalLossV2(gamma=gamma, loss_weight=3.0)
    positive = 3 * 0.25 * 0.75**gamma * math.log(4) / 2
    negative = 3 * 0.75 * 0.25**gamma * math.log(4 / 3) / 2
    assert loss(logit, torch.tensor([1]), 2.0).item() == pytest.approx(positive)
    assert loss(logit, torch.tensor([0]), 2.0).item() == pytest.approx(negative)
    assert loss(logit, torch.tensor([-1]), 2.0).item() == 0
    quality = QualityFocalLoss(beta=gamma)(logit[None], torch.tensor([-1]), torch.zeros(1), 1.0)
    assert quality.item() == pytest.approx(math.log(4 / 3) * 0.25**gamma)


def test_limits_of_losses() -> None:
    for alpha, gamma in ((0.0, 0.0), (1.0, 0.0)):
        assert FocalLossV2(alpha=alpha, gamma=gamma).alpha == alpha
    for alpha, gamma in ((-0.01, 2.0), (1.01, 2.0), (0.5, -0.01)):
        with pytest.raises(ValueError, match="alpha is from 0 to 1"):
            FocalLossV2(alpha=alpha, gamma=gamma)
    with pytest.raises(ValueError, match="reduction 'mean' or 'sum'"):
        SmoothL1Loss(reduction="none")  # type: ignore[arg-type]
    pred = torch.tensor([[3.0, 0, 0, 0]])
    assert SmoothL1Loss(loss_weight=2.0)(pred, torch.zeros(1, 4), 4.0).item() == pytest.approx(2 * 2.5 / 4)
    assert SmoothL1Loss(loss_weight=2.0, reduction="sum")(pred, torch.zeros(1, 4), 4.0).item() == pytest.approx(5)


def test_giou_loss_of_boxes_without_area() -> None:
    """Of points every area is the eps: 1 - (0 / eps - 0 / eps) = 1."""
    points = torch.zeros(2, 4)
    assert GIoULoss(eps=0.5)(points, points, torch.ones(2), 1.0).item() == 2
    # Two boxes of area 0.25 that touch: union and enclosing area 0.5 become 1.
    a, b = torch.tensor([[0.0, 0, 0.5, 0.5]]), torch.tensor([[0.5, 0, 1, 0.5]])
    assert GIoULoss(eps=1.0)(a, b, torch.ones(1), 1.0).item() == 1


# --------------------------------------------------------------------------------------- post-processing
def grid(count: int) -> Tensor:
    return torch.tensor([[i * 20.0, 0, i * 20 + 10, 10] for i in range(count)])


def test_a_score_at_the_threshold_is_no_candidate() -> None:
    scores = torch.tensor([[[0.5], [0.25], [0.75]]])
    (found,) = RTMDetPostProcess(score_thr=0.5).from_scores(scores, grid(3)[None], [3])
    assert found["scores"].tolist() == [0.75]
    (found,) = RetinaNetPostProcess(score_thresh=0.5).from_scores(scores, grid(3)[None], [3])
    assert found["scores"].tolist() == [0.75]
    for low in (RTMDetPostProcess(score_thr=0.0), RTMDetPostProcess(score_thr=0.999, iou_threshold=1.0)):
        assert low.score_thr >= 0
    assert RetinaNetPostProcess(score_thresh=0.0, nms_thresh=1.0, detections_per_img=1, topk_candidates=1)
    assert RTMDetPostProcess(nms_pre=1, max_per_img=1, iou_threshold=0.0)
    for bad in (dict(score_thr=-0.1), dict(iou_threshold=1.1), dict(iou_threshold=-0.1), dict(max_per_img=0)):
        with pytest.raises(ValueError, match=r"between 0 and 1|at least 1"):
            RTMDetPostProcess(**bad)  # type: ignore[arg-type]
    for bad in (dict(score_thresh=-0.1), dict(nms_thresh=1.1), dict(detections_per_img=0)):
        with pytest.raises(ValueError, match=r"between 0 and 1|at least 1"):
            RetinaNetPostProcess(**bad)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"unknown nms_type 'nsm'; did you mean 'nms'"):
        RTMDetPostProcess(nms_type="nsm")


@pytest.mark.parametrize("kept", [3, 4])
def test_as_many_candidates_as_are_kept_are_all_kept(kept: int) -> None:
    scores = torch.tensor([[[0.5], [0.9], [0.7], [0.8]]])
    (found,) = RTMDetPostProcess(nms_pre=kept).from_scores(scores, grid(4)[None], [4])
    assert found["scores"].tolist() == pytest.approx([0.9, 0.8, 0.7, 0.5][:kept])
    (found,) = RetinaNetPostProcess(topk_candidates=kept).from_scores(scores, grid(4)[None], [4])
    assert found["scores"].tolist() == pytest.approx([0.9, 0.8, 0.7, 0.5][:kept])


def test_boxes_that_clipping_leaves_a_line_are_dropped() -> None:
    boxes = torch.tensor([[[-5.0, 0, 0, 10], [0, -5, 10, 0], [20, 0, 30, 10], [0, 20, 10, 30], [18, 17, 25, 25]]])
    scores, size = torch.full((1, 5, 1), 0.5), torch.tensor([[18, 20]])  # h, w
    (found,) = RTMDetPostProcess().from_scores(scores, boxes, [5], img_size=size)
    assert found["boxes"].tolist() == [[18, 17, 20, 18]]
    (found,) = RetinaNetPostProcess().from_scores(scores, boxes, [5], img_size=size)
    assert found["boxes"].tolist() == [[18, 17, 20, 18]]


def test_each_image_has_its_own_size_and_scale() -> None:
    boxes = torch.tensor([[[0.0, 0, 40, 40]], [[0.0, 0, 40, 40]]])
    sizes, factors = torch.tensor([[10, 20], [30, 8]]), torch.tensor([[0.5, 2.0], [4.0, 1.0]])
    expected = [[[0, 0, 40, 5]], [[0, 0, 2, 30]]]
    found = RTMDetPostProcess().from_scores(torch.full((2, 1, 1), 0.5), boxes, [1], sizes, factors)
    assert [image["boxes"].tolist() for image in found] == expected
    found = RetinaNetPostProcess().from_scores(torch.full((2, 1, 1), 0.5), boxes, [1], sizes, factors)
    assert [image["boxes"].tolist() for image in found] == expected


def test_soft_suppression_gets_its_numbers() -> None:
    """IoU 1/3 of the first two; gaussian with sigma 0.5; what falls below 0.45 goes."""
    boxes, labels = (
        torch.tensor([[0.0, 0, 10, 10], [5, 0, 15, 10], [50, 50, 60, 60]]),
        torch.zeros(3, dtype=torch.int64),
    )
    scores = torch.tensor([0.9, 0.6, 0.5])
    gaussian = RTMDetPostProcess(nms_type="soft_gaussian", soft_nms_sigma=0.5, soft_nms_min_score=0.45)
    found = gaussian.suppress(boxes, scores, labels)
    assert found["scores"].tolist() == pytest.approx([0.9, 0.5, 0.6 * math.exp(-2 / 9)])
    assert found["boxes"].tolist() == boxes[[0, 2, 1]].tolist() and found["labels"].tolist() == [0, 0, 0]
    linear = RTMDetPostProcess(nms_type="soft_linear", iou_threshold=0.3, soft_nms_min_score=0.41, max_per_img=1)
    assert linear.suppress(boxes, scores, labels)["scores"].tolist() == pytest.approx([0.9])
    linear = RTMDetPostProcess(nms_type="soft_linear", iou_threshold=0.3, soft_nms_min_score=0.41)
    assert linear.suppress(boxes, scores, labels)["scores"].tolist() == pytest.approx([0.9, 0.5])
    whole = RTMDetPostProcess(iou_threshold=0.3).suppress(boxes, scores, labels)
    assert whole["scores"].tolist() == pytest.approx([0.9, 0.5])
    assert batched_nms(boxes, scores, labels, 0.3).tolist() == [0, 2]


def test_every_level_keeps_its_own_best() -> None:
    scores = torch.tensor([[[0.2], [0.9], [0.7], [0.3], [0.8], [0.6], [0.1], [0.5]]])
    (found,) = RTMDetPostProcess(nms_pre=2).from_scores(scores, grid(8)[None], [3, 3, 2])
    assert found["scores"].tolist() == pytest.approx([0.9, 0.8, 0.7, 0.6, 0.5, 0.1])
    assert (found["boxes"][:, 0] / 20).tolist() == [1, 4, 2, 5, 7, 6]
    (found,) = RTMDetPostProcess(nms_pre=2)(scores.logit(), grid(8)[None], [3, 3, 2])
    assert (found["boxes"][:, 0] / 20).tolist() == [1, 4, 2, 5, 7, 6]
