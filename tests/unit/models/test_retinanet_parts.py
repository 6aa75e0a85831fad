"""Anchors, matching, encoding, filter and losses of RetinaNet against numbers computed by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from hatdet.models.losses.focal_loss import FocalLossV2
from hatdet.models.losses.smooth_l1_loss import SmoothL1Loss
from hatdet.models.task_modules.anchors import AnchorGenerator
from hatdet.models.task_modules.encoders import OneHotClassEncoder, XYWHBBoxEncoder
from hatdet.models.task_modules.max_iou_matcher import MaxIoUMatcher
from hatdet.models.task_modules.multi_stride_filter import RetinanetMultiStrideFilter
from hatdet.models.task_modules.target_generator import BBoxTargetGenerator, MatchLabelSepEncoder


def boxes_of(*rows: tuple[float, float, float, float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)


# ------------------------------------------------------------------------------------------------ anchors
def test_anchors_by_hand() -> None:
    anchors = AnchorGenerator(feat_strides=[8, 16], scales=[1.0, 2.0], ratios=[1.0, 4.0], base_sizes=[10, 20])
    assert anchors.num_priors == (4, 4)
    # ratio 1: squares of 10 and 20; ratio 4: half as wide, twice as high
    expected = boxes_of((-5, -5, 5, 5), (-10, -10, 10, 10), (-2.5, -10, 2.5, 10), (-5, -20, 5, 20))
    assert torch.equal(anchors.base_anchors[0], expected)
    first, second = anchors.level_priors([(2, 3), (1, 1)])
    assert first.shape == (2 * 3 * 4, 4) and second.shape == (4, 4)
    position = first.reshape(2, 3, 4, 4)[1, 2]  # row 1, column 2: the point (16, 8)
    assert torch.equal(position, expected + torch.tensor([16.0, 8.0, 16.0, 8.0]))
    assert torch.equal(second, 2 * expected)


def test_anchors_are_rounded_around_the_centre() -> None:
    scales = [2 ** (i / 3) for i in range(3)]
    anchors = AnchorGenerator(feat_strides=[8], scales=scales, ratios=[0.5, 1, 2], base_sizes=[32], round_anchor=True)
    sides = anchors.base_anchors[0][:, 2:] - anchors.base_anchors[0][:, :2]
    assert torch.equal(anchors.base_anchors[0], anchors.base_anchors[0].round())
    # 32, 40.3 and 50.8 pixels; sides are twice a rounded half
    assert sides[3:6].tolist() == [[32, 32], [40, 40], [50, 50]]
    assert sides[0].tolist() == [46, 22] and sides[6].tolist() == [22, 46]  # 45.25 x 22.63


def test_anchor_centres_with_an_offset() -> None:
    (level,) = AnchorGenerator(feat_strides=[8], scales=[1], ratios=[1], center_offset=0.5).level_priors([(1, 2)])
    assert torch.equal(level, boxes_of((0, 0, 8, 8), (8, 0, 16, 8)))


def test_anchors_of_the_tutorial_at_1024() -> None:
    scales = [2 ** (i / 3) for i in range(3)]
    anchors = AnchorGenerator(feat_strides=[8, 16, 32, 64, 128], scales=scales, ratios=[0.5, 1, 2])
    assert sum(len(a) for a in anchors.level_priors([(1024 // s, 1024 // s) for s in anchors.strides])) == 196_416


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(feat_strides=[8, 16], scales=[1], ratios=[1], base_sizes=[32]), "one base size for each stride"),
        (dict(feat_strides=[8], scales=[], ratios=[1]), "scales must be one or more positive"),
        (dict(feat_strides=[8], scales=[1], ratios=[-1]), "ratios must be one or more positive"),
        (dict(feat_strides=[8], scales=[1], ratios=[1], base_sizes=[0]), "base_sizes must be positive"),
    ],
)
def test_anchors_refuse(arguments: dict[str, list[float]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AnchorGenerator(**arguments)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="need 1 map sizes"):
        AnchorGenerator(feat_strides=[8], scales=[1], ratios=[1]).level_priors([(1, 1), (2, 2)])


# ----------------------------------------------------------------------------------------------- matching
ANCHORS = boxes_of((0, 0, 10, 10), (0, 0, 10, 5), (0, 0, 10, 4.5), (0, 0, 10, 3), (20, 20, 30, 30))


def test_thresholds() -> None:
    """One box of 10x10 at the origin; IoU 1, 0.5, 0.45, 0.3, 0."""
    match, best = MaxIoUMatcher(pos_iou=0.5, neg_iou=0.4)(ANCHORS, boxes_of((0, 0, 10, 10)))
    assert match.tolist() == [0, 0, -2, -1, -1]
    assert best.tolist() == [1.0]


def test_the_best_anchor_of_a_box_learns_it_however_little_it_overlaps() -> None:
    boxes = boxes_of((0, 0, 10, 10), (28, 28, 60, 60), (100, 100, 110, 110))
    match, best = MaxIoUMatcher(pos_iou=0.5, neg_iou=0.4)(ANCHORS, boxes)
    assert match.tolist() == [0, 0, -2, -1, 1]
    iou = 4 / (100 + 32 * 32 - 4)
    assert best.tolist() == pytest.approx([1.0, iou, 0.0])
    strict = MaxIoUMatcher(pos_iou=0.5, neg_iou=0.4, allow_low_quality_match=False)(ANCHORS, boxes)[0]
    assert strict.tolist() == [0, 0, -2, -1, -1]
    at_least = MaxIoUMatcher(pos_iou=0.5, neg_iou=0.4, low_quality_iou=0.01)(ANCHORS, boxes)[0]
    assert at_least.tolist() == [0, 0, -2, -1, -1]


def test_an_anchor_that_is_the_best_of_two_boxes_takes_the_nearer_one() -> None:
    anchors = boxes_of((0, 0, 10, 10))
    boxes = boxes_of((0, 0, 10, 2), (0, 0, 10, 3), (0, 7, 10, 10))
    assert MaxIoUMatcher(pos_iou=0.5, neg_iou=0.4)(anchors, boxes)[0].tolist() == [1]


def test_ties_of_a_box_all_learn_it() -> None:
    anchors = boxes_of((0, 0, 10, 10), (10, 0, 20, 10), (40, 0, 50, 10))
    match, _ = MaxIoUMatcher(pos_iou=0.5, neg_iou=0.4)(anchors, boxes_of((5, 0, 15, 10)))
    assert match.tolist() == [0, 0, -1]


def test_no_boxes_is_all_background() -> None:
    match, best = MaxIoUMatcher(pos_iou=0.5, neg_iou=0.4)(ANCHORS, torch.zeros(0, 4))
    assert match.tolist() == [-1] * 5 and best.shape == (0,)


@pytest.mark.parametrize("ious", [(0.4, 0.5, 0.0), (1.1, 0.4, 0.0), (0.5, -0.1, 0.0), (0.0, 0.0, 0.0), (0.5, 0.4, 2.0)])
def test_matcher_refuses(ious: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="0 <= neg_iou <= pos_iou <= 1"):
        MaxIoUMatcher(pos_iou=ious[0], neg_iou=ious[1], low_quality_iou=ious[2])


# ----------------------------------------------------------------------------------------------- encoding
def test_boxes_are_encoded_relative_to_the_anchor() -> None:
    anchor, box = boxes_of((0, 0, 10, 20)), boxes_of((5, 5, 25, 15))
    # centres (5, 10) and (15, 10); sides 10x20 and 20x10
    expected = [1.0, 0.0, math.log(2), -math.log(2)]
    assert XYWHBBoxEncoder().encode(anchor, box)[0].tolist() == pytest.approx(expected)
    encoder = XYWHBBoxEncoder(reg_mean=(0.5, 0, 0, 0), reg_std=(0.1, 0.1, 0.2, 0.2))
    scaled = [5.0, 0.0, math.log(2) / 0.2, -math.log(2) / 0.2]
    assert encoder.encode(anchor, box)[0].tolist() == pytest.approx(scaled)


def test_encoding_is_undone_by_decoding() -> None:
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(2, 100, 2, generator=generator) * 50
    sides = 1 + torch.rand(2, 100, 2, generator=generator) * 60
    anchors, boxes = torch.cat((corners, corners + sides), dim=-1)
    for encoder in (XYWHBBoxEncoder(), XYWHBBoxEncoder(reg_mean=(0.1, 0.2, 0.3, 0.4), reg_std=(0.1, 0.2, 0.3, 0.4))):
        assert torch.allclose(encoder.decode(anchors, encoder.encode(anchors, boxes)), boxes, atol=1e-4)


def test_decoding_cuts_sides_that_would_explode() -> None:
    decoded = XYWHBBoxEncoder().decode(boxes_of((0, 0, 16, 16)), torch.tensor([[0.0, 0.0, 1000.0, -1000.0]]))
    assert decoded[0].tolist() == pytest.approx([8 - 500, 8, 8 + 500, 8], rel=1e-6)


def test_class_columns() -> None:
    labels = torch.tensor([0, 1, 3, -2])
    assert OneHotClassEncoder(num_classes=4)(labels).tolist() == [[0, 0, 0], [1, 0, 0], [0, 0, 1], [-1, -1, -1]]
    own = OneHotClassEncoder(num_classes=4, class_agnostic_neg=False)
    assert own(labels).tolist()[3] == [0, -1, 0]
    whole = OneHotClassEncoder(num_classes=4, exclude_background=False)
    assert whole(labels).tolist()[:2] == [[1, 0, 0, 0], [0, 1, 0, 0]] and whole.num_columns == 4
    with pytest.raises(ValueError, match="write num_classes \\+ 1"):
        OneHotClassEncoder(num_classes=1)
    with pytest.raises(ValueError, match="four numbers each"):
        XYWHBBoxEncoder(reg_mean=(0, 0), reg_std=(1, 1))


def test_targets_of_a_batch() -> None:
    targets = BBoxTargetGenerator(
        matcher=MaxIoUMatcher(pos_iou=0.5, neg_iou=0.4),
        label_encoder=MatchLabelSepEncoder(
            bbox_encoder=XYWHBBoxEncoder(), class_encoder=OneHotClassEncoder(num_classes=3)
        ),
    )
    gt_boxes = torch.stack((boxes_of((0, 0, 0, 0), (0, 0, 10, 10)), torch.zeros(2, 4)))
    result = targets(ANCHORS, gt_boxes, torch.tensor([[-1, 1], [-1, -1]]))
    assert result.classes[0].tolist() == [[0, 1], [0, 1], [-1, -1], [0, 0], [0, 0]]
    assert result.classes[1].tolist() == [[0, 0]] * 5
    assert result.positive.tolist() == [[True, True, False, False, False], [False] * 5]
    # the second anchor is the upper half of the box: its centre is half an anchor's height away, its log ratio log 2
    assert torch.allclose(result.deltas, torch.tensor([[0, 0, 0, 0], [0, 0.5, 0, math.log(2)]]))
    assert result.num_boxes == 1 and int(result.covered) == 1


# ------------------------------------------------------------------------------------------------- filter
def test_filter_looks_at_the_best_logit_of_a_position() -> None:
    maps = [torch.full((1, 4, 2, 2), -5.0), torch.full((1, 4, 1, 1), -5.0)]
    maps[0][0, 3, 1, 0] = -2.944
    maps[0][0, 0, 0, 1] = -2.9441
    first, second = RetinanetMultiStrideFilter(strides=[8, 16], threshold=-2.944)(maps)
    assert first.tolist() == [[[False, False], [True, False]]] and second.tolist() == [[[False]]]
    with pytest.raises(ValueError, match="there are 1 levels"):
        RetinanetMultiStrideFilter(strides=[8, 16], threshold=0)(maps[:1])


@pytest.mark.parametrize(("scale", "zero"), [(0.05, 20), (0.0736, -40), (2.944 / 64, 0), (0.01, -128), (0.1, 127)])
def test_filter_of_codes_is_the_filter_of_real_values(scale: float, zero: int) -> None:
    module = RetinanetMultiStrideFilter(strides=[8], threshold=-2.944)
    codes = torch.arange(-128, 128)
    real = (codes - zero).float() * torch.tensor(scale, dtype=torch.float32)
    (kept,) = module([real.reshape(1, 1, 16, 16)])
    threshold = module.code_threshold(scale, zero)
    assert threshold is not None
    assert torch.equal(kept.flatten(), codes >= threshold)


def test_filter_that_nothing_passes() -> None:
    assert RetinanetMultiStrideFilter(strides=[8], threshold=100.0).code_threshold(0.1, 0) is None
    assert RetinanetMultiStrideFilter(strides=[8], threshold=100.0).code_threshold(0.1, 0, -32768, 32767) == 1000


# ------------------------------------------------------------------------------------------------- losses
@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.5, 0.0), (0.75, 1.5)])
def test_focal_loss_is_the_formula(alpha: float, gamma: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = (torch.randn(40, 3, generator=generator, dtype=torch.float64) * 3).requires_grad_()
    targets = torch.randint(-1, 2, (40, 3), generator=generator).to(torch.int8)
    p = logits.sigmoid()
    p_t = torch.where(targets == 1, p, 1 - p)
    alpha_t = torch.where(targets == 1, alpha, 1 - alpha)
    expected = (-alpha_t * (1 - p_t) ** gamma * p_t.log())[targets >= 0].sum() / 7
    (wanted,) = torch.autograd.grad(expected, logits)
    loss = FocalLossV2(alpha=alpha, gamma=gamma)(logits, targets, 7.0)
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    assert logits.grad is not None and torch.allclose(logits.grad, wanted, rtol=1e-10, atol=1e-15)
    assert (logits.grad[targets < 0] == 0).all() and (targets < 0).any()


def test_focal_loss_by_hand_and_at_extremes() -> None:
    loss = FocalLossV2()
    # p = 0.5: 0.25 * 0.25 * log 2 for a positive, three times that for a negative
    zero = torch.zeros(1)
    assert loss(zero, torch.tensor([1]), 1.0).item() == pytest.approx(0.0625 * math.log(2))
    assert loss(zero, torch.tensor([0]), 1.0).item() == pytest.approx(0.1875 * math.log(2))
    extreme = torch.tensor([-1e4, 1e4], requires_grad=True)
    value = loss(extreme, torch.tensor([1, 0]), 1.0)
    value.backward()
    assert value.item() == pytest.approx(0.25e4 + 0.75e4)
    assert extreme.grad is not None and extreme.grad.tolist() == pytest.approx([-0.25, 0.75])
    assert loss(torch.zeros(0, 3), torch.zeros(0, 3), 1.0).item() == 0
    with pytest.raises(ValueError, match="alpha is from 0 to 1"):
        FocalLossV2(alpha=2.0)


def test_smooth_l1_by_hand() -> None:
    pred, target = torch.tensor([[0.05, 0.0, 1.0, -2.0]]), torch.zeros(1, 4)
    beta = 1 / 9
    total = 0.05**2 / (2 * beta) + (1 - beta / 2) + (2 - beta / 2)
    assert SmoothL1Loss(beta=beta)(pred, target, 1.0).item() == pytest.approx(total, rel=1e-6)
    assert SmoothL1Loss(beta=beta)(pred, target, torch.tensor(4.0)).item() == pytest.approx(total / 4, rel=1e-6)
    assert SmoothL1Loss(beta=beta, reduction="sum")(pred, target, 4.0).item() == pytest.approx(total, rel=1e-6)
    assert SmoothL1Loss(beta=0.0)(pred, target, 1.0).item() == pytest.approx(F.l1_loss(pred, target).item() * 4)
    assert SmoothL1Loss()(torch.zeros(0, 4), torch.zeros(0, 4), 1.0).item() == 0
    with pytest.raises(ValueError, match="beta is at least 0"):
        SmoothL1Loss(beta=-1.0)
