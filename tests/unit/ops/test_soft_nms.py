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
