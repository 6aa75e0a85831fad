"""Soft-NMS against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from hatdet.ops.soft_nms import batched_soft_nms

# IoU of the first two: 50 / 150 = 1/3; the third overlaps nothing.
BOXES = torch.tensor([[0.0, 0, 10, 10], [5, 0, 15, 10], [50, 50, 60, 60]])
SCORES = torch.tensor([0.9, 0.6, 0.5])


def test_linear_lowers_by_the_overlap() -> None:
    keep, scores = batched_soft_nms(BOXES, SCORES, torch.zeros(3, dtype=torch.int64), method="linear")
    assert keep.tolist() == [0, 2, 1]
    assert scores.tolist() == pytest.approx([0.9, 0.5, 0.6 * 2 / 3])


def test_linear_leaves_small_overlaps_alone() -> None:
    keep, scores = batched_soft_nms(BOXES, SCORES, torch.zeros(3, dtype=torch.int64), iou_threshold=0.34)
    assert keep.tolist() == [0, 1, 2] and scores.tolist() == pytest.approx([0.9, 0.6, 0.5])


def test_gaussian_decays() -> None:
    _, scores = batched_soft_nms(BOXES, SCORES, torch.zeros(3, dtype=torch.int64), method="gaussian", sigma=0.5)
    assert sorted(scores.tolist()) == pytest.approx(sorted([0.9, 0.5, 0.6 * math.exp(-(1 / 9) / 0.5)]))


def test_classes_do_not_touch_each_other() -> None:
    keep, scores = batched_soft_nms(BOXES, SCORES, torch.tensor([0, 1, 0]))
    assert keep.tolist() == [0, 1, 2] and scores.tolist() == pytest.approx([0.9, 0.6, 0.5])


def test_boxes_below_the_least_score_are_dropped_and_the_best_are_kept() -> None:
    same = torch.tensor([[0.0, 0, 10, 10]] * 3)
    keep, _ = batched_soft_nms(same, SCORES, torch.zeros(3, dtype=torch.int64))
    assert keep.tolist() == [0]
    keep, _ = batched_soft_nms(BOXES, SCORES, torch.zeros(3, dtype=torch.int64), max_keep=2)
    assert keep.tolist() == [0, 2]


def test_equal_scores_are_taken_in_order_and_nothing_gives_nothing() -> None:
    boxes = torch.tensor([[0.0, 0, 1, 1], [5, 5, 6, 6], [9, 9, 10, 10]])
    keep, _ = batched_soft_nms(boxes, torch.full((3,), 0.5), torch.tensor([2, 0, 1]))
    assert keep.tolist() == [0, 1, 2]
    keep, scores = batched_soft_nms(boxes[:0], boxes[:0, 0], torch.zeros(0, dtype=torch.int64))
    assert keep.tolist() == [] and scores.tolist() == []


def test_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown method 'soft'"):
        batched_soft_nms(BOXES, SCORES, torch.zeros(3, dtype=torch.int64), method="soft")
    with pytest.raises(ValueError, match="sigma above 0"):
        batched_soft_nms(BOXES, SCORES, torch.zeros(3, dtype=torch.int64), sigma=0.0)


def test_limits_and_defaults() -> None:
    none = torch.zeros(3, dtype=torch.int64)
    for options in ({"iou_threshold": 0.0}, {"iou_threshold": 1.0}, {"min_score": 0.0}, {"sigma": 0.01}):
        assert len(batched_soft_nms(BOXES, SCORES, none, **options)[0]) == 3  # type: ignore[arg-type]
    for wrong in ({"iou_threshold": -0.1}, {"iou_threshold": 1.1}, {"min_score": -0.1}, {"sigma": -1.0}):
        with pytest.raises(ValueError, match="iou_threshold is from 0 to 1"):
            batched_soft_nms(BOXES, SCORES, none, **wrong)  # type: ignore[arg-type]
    by_default = batched_soft_nms(BOXES, SCORES, none)
    spelt_out = batched_soft_nms(
        BOXES, SCORES, none, method="linear", iou_threshold=0.3, sigma=0.5, min_score=0.001, max_keep=None
    )
    assert all(torch.equal(a, b) for a, b in zip(by_default, spelt_out, strict=True))
    gaussian = [batched_soft_nms(BOXES, SCORES, none, method="gaussian", **s)[1] for s in ({}, {"sigma": 0.5})]
    assert torch.equal(*gaussian)


def test_a_score_of_exactly_the_least_stays_and_an_overlap_of_exactly_the_threshold_counts_not() -> None:
    """IoU of the halves 0.5: 0.5 * (1 - 0.5) = 0.25."""
    boxes, none = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5]]), torch.zeros(2, dtype=torch.int64)
    scores = torch.tensor([0.75, 0.5])
    assert batched_soft_nms(boxes, scores, none, min_score=0.25)[1].tolist() == [0.75, 0.25]
    assert batched_soft_nms(boxes, scores, none, min_score=0.26)[1].tolist() == [0.75]
    assert batched_soft_nms(boxes, scores, none, min_score=0.5, iou_threshold=0.5)[1].tolist() == [0.75, 0.5]
    assert batched_soft_nms(boxes, scores, none, iou_threshold=0.5)[1].tolist() == [0.75, 0.5]
    assert batched_soft_nms(boxes, scores, none, iou_threshold=0.49)[1].tolist() == [0.75, 0.25]
    assert batched_soft_nms(boxes, scores, none)[1].tolist() == [0.75, 0.25]
    assert batched_soft_nms(boxes[:1], scores[:1], none[:1], min_score=0.75)[1].tolist() == [0.75]


def test_every_better_box_lowers_a_score_again() -> None:
    """Three boxes in a row, each half over the next (IoU 1/3); the last two are lowered in turn, by the new order."""
    boxes = torch.tensor([[0.0, 0, 10, 10], [5, 0, 15, 10], [10, 0, 20, 10], [5, 0, 15, 10]])
    keep, scores = batched_soft_nms(boxes, torch.tensor([0.9, 0.6, 0.5, 0.3]), torch.zeros(4, dtype=torch.int64))
    # 0 lowers 1 to 0.4 and 3 to 0.2; then 2 (0.5) lowers 1 to 0.2667 and 3 to 0.1333; 1 is the place of 3: 0, dropped.
    assert keep.tolist() == [0, 2, 1] and scores.tolist() == pytest.approx([0.9, 0.5, 0.6 * 4 / 9])


def test_boxes_without_area_are_left_alone() -> None:
    points = torch.tensor([[0.0, 0, 0, 0], [0, 0, 0, 0], [5, 5, 1, 9]])
    keep, scores = batched_soft_nms(points, SCORES, torch.zeros(3, dtype=torch.int64), iou_threshold=0.0)
    assert keep.tolist() == [0, 1, 2] and scores.tolist() == pytest.approx([0.9, 0.6, 0.5])
    keep, scores = batched_soft_nms(BOXES, SCORES.double(), torch.tensor([7, 7, 3]))
    assert keep.dtype == torch.int64 and scores.dtype == torch.float64
