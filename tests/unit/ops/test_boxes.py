"""Overlaps of boxes, against areas counted by hand."""

from __future__ import annotations

import pytest
import torch

from hatdet.ops.boxes import aligned_giou, aligned_iou, box_area, pairwise_giou, pairwise_iou

UNIT = torch.tensor([0.0, 0.0, 2.0, 2.0])


@pytest.mark.parametrize(
    ("box", "iou", "giou"),
    [
        ([0, 0, 2, 2], 1.0, 1.0),
        ([1, 1, 3, 3], 1 / 7, 1 / 7 - 2 / 9),  # intersection 1, union 7, enclosing 9
        ([0, 0, 2, 1], 1 / 2, 1 / 2),  # inside: the enclosing box is the larger one
        ([2, 0, 4, 2], 0.0, 0.0),  # side by side: union and enclosing are both 8
        ([4, 0, 6, 2], 0.0, -4 / 12),  # a gap as wide as a box
        ([1, 1, 1, 1], 0.0, 0.0),  # a point
    ],
)
def test_overlap_by_hand(box: list[float], iou: float, giou: float) -> None:
    other = torch.tensor(box, dtype=torch.float32)
    assert aligned_iou(UNIT, other).item() == pytest.approx(iou, abs=1e-7)
    assert aligned_giou(UNIT, other).item() == pytest.approx(giou, abs=1e-7)
    assert aligned_giou(other, UNIT).item() == pytest.approx(giou, abs=1e-7)


def test_pairwise_is_aligned_for_each_pair() -> None:
    a = torch.tensor([[0, 0, 2, 2], [0, 0, 4, 4]], dtype=torch.float32)
    b = torch.tensor([[0, 0, 2, 2], [2, 2, 4, 4], [8, 8, 9, 9]], dtype=torch.float32)
    expected = torch.tensor([[1.0, 0.0, 0.0], [0.25, 0.25, 0.0]])
    assert torch.equal(pairwise_iou(a, b), expected)
    assert torch.equal(pairwise_iou(a.expand(5, 2, 4), b.expand(5, 3, 4)), expected.expand(5, 2, 3))
    for i in range(2):
        for j in range(3):
            assert pairwise_giou(a, b)[i, j] == aligned_giou(a[i], b[j])


def test_no_boxes() -> None:
    assert pairwise_iou(torch.zeros(0, 4), torch.zeros(3, 4)).shape == (0, 3)
    assert aligned_giou(torch.zeros(0, 4), torch.zeros(0, 4)).shape == (0,)


def test_boxes_without_area_give_no_nan() -> None:
    points = torch.zeros(1, 4, requires_grad=True)
    value = aligned_giou(points, torch.zeros(1, 4))
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert points.grad is not None and torch.isfinite(points.grad).all()


def test_area() -> None:
    assert box_area(torch.tensor([[1.0, 2.0, 4.0, 6.0]])).tolist() == [12.0]


def test_areas_below_the_least_one_count_as_it() -> None:
    tiny = torch.tensor([0.0, 0.0, 0.5, 0.5])
    assert aligned_iou(tiny, tiny, eps=0.5).item() == 0.5  # 0.25 of at least 0.5
    assert aligned_giou(tiny, tiny, eps=0.5).item() == 0.5
    beside = torch.tensor([0.5, 0.0, 1.0, 0.5])  # union and enclosing area are 0.5
    assert aligned_giou(tiny, beside, eps=0.25).item() == 0 and aligned_giou(tiny, beside, eps=1.0).item() == 0
    assert aligned_iou(torch.tensor([0, 0, 1e-3, 1e-3]), torch.tensor([0, 0, 1e-3, 1e-3])).item() == pytest.approx(1)
    assert aligned_iou(torch.tensor([0, 0, 5e-4, 1e-3]), torch.tensor([0, 0, 5e-4, 1e-3])).item() == pytest.approx(0.5)
    assert aligned_giou(torch.tensor([0, 0, 5e-4, 1e-3]), torch.tensor([0, 0, 5e-4, 1e-3])).item() == pytest.approx(0.5)


@pytest.mark.parametrize(("dx", "dy"), [(1, 0), (-1, 0), (0, 1), (0, -1), (1, -1), (-1, 1), (5, 0), (0, -5), (5, 5)])
def test_a_shifted_box_overlaps_alike_in_every_direction(dx: int, dy: int) -> None:
    """2 x 3 pixels: what is shared, what both cover, and the smallest box around both, counted."""
    box = torch.tensor([10.0, 20.0, 12.0, 23.0])
    other = box + torch.tensor([dx, dy, dx, dy])
    shared = max(2 - abs(dx), 0) * max(3 - abs(dy), 0)
    both, around = 12 - shared, (2 + abs(dx)) * (3 + abs(dy))
    assert aligned_iou(box, other).item() == pytest.approx(shared / both)
    assert aligned_giou(box, other).item() == pytest.approx(shared / both - (around - both) / around)
