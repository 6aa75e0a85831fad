"""Suppression: by hand, both backends against each other and against the plain definition."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hatdet.ops import nms
from hatdet.ops.nms import batched_nms

BACKENDS = ("cv2", "torch")


def by_definition(boxes: Tensor, scores: Tensor, labels: Tensor, threshold: float) -> list[int]:
    """Take the best box left (the first of equals), drop what overlaps it, repeat."""
    left = sorted(range(len(scores)), key=lambda i: (-float(scores[i]), i))
    kept = []
    while left:
        best = left.pop(0)
        kept.append(best)
        left = [i for i in left if labels[i] != labels[best] or _iou(boxes[i], boxes[best]) <= threshold]
    return kept


def _iou(a: Tensor, b: Tensor) -> float:
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = a.tolist(), b.tolist()
    intersection = max(min(ax2, bx2) - max(ax1, bx1), 0.0) * max(min(ay2, by2) - max(ay1, by1), 0.0)
    union = (ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - intersection
    return intersection / union if union > 0 else 0.0


def random_case(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes on a coarse grid, few distinct scores: many equal scores and overlaps exactly at a threshold."""
    generator = torch.Generator().manual_seed(seed)
    count = int(torch.randint(1, 120, (1,), generator=generator))
    corner = torch.randint(0, 12, (count, 2), generator=generator).float() * 4
    sides = torch.randint(seed % 2, 8, (count, 2), generator=generator).float() * 4  # zero sides in even cases
    if seed % 3 == 0:
        corner = corner + torch.rand(count, 2, generator=generator)
    scores = torch.randint(0, 9, (count,), generator=generator) / 8
    labels = torch.randint(0, 1 + seed % 4, (count,), generator=generator)
    return torch.cat((corner, corner + sides), dim=1), scores, labels


@pytest.mark.parametrize("backend", BACKENDS)
def test_by_hand(backend: str) -> None:
    boxes = torch.tensor([[0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 6], [20, 20, 30, 30]], dtype=torch.float32)
    scores = torch.tensor([0.9, 0.8, 0.7, 0.95])
    one_class = torch.zeros(4, dtype=torch.int64)
    # IoU of 0 and 1 is exactly 0.5: not above the threshold, so 1 stays and suppresses 2 (IoU 5/6).
    assert batched_nms(boxes, scores, one_class, 0.5, backend=backend).tolist() == [3, 0, 1]
    assert batched_nms(boxes, scores, one_class, 0.49, backend=backend).tolist() == [3, 0]
    other = torch.tensor([0, 0, 1, 0])
    assert batched_nms(boxes, scores, other, 0.5, backend=backend).tolist() == [3, 0, 1, 2]
    assert batched_nms(boxes, scores, one_class, 0.5, max_keep=2, backend=backend).tolist() == [3, 0]


@pytest.mark.parametrize("backend", BACKENDS)
def test_equal_scores_keep_the_lower_index(backend: str) -> None:
    boxes = torch.tensor([[0, 0, 10, 10], [1, 0, 11, 10], [40, 0, 50, 10]], dtype=torch.float32)
    labels = torch.zeros(3, dtype=torch.int64)
    assert batched_nms(boxes, torch.full((3,), 0.5), labels, 0.5, backend=backend).tolist() == [0, 2]
    assert batched_nms(boxes.flip(0), torch.full((3,), 0.5), labels, 0.5, backend=backend).tolist() == [0, 1]


@pytest.mark.parametrize("threshold", [0.0, 0.25, 1 / 3, 0.5, 0.6, 0.65, 1.0])
def test_backends_agree_with_the_definition(threshold: float) -> None:
    for seed in range(40):
        boxes, scores, labels = random_case(seed)
        first = batched_nms(boxes, scores, labels, threshold, backend="cv2").tolist()
        assert batched_nms(boxes, scores, labels, threshold, backend="torch").tolist() == first, seed
        # Where an overlap is the threshold, rounding decides: compare only what is exact in float32.
        if threshold not in (1 / 3, 0.6, 0.65) and torch.equal(boxes, boxes.round()):
            assert by_definition(boxes, scores, labels, threshold) == first, seed


@pytest.mark.parametrize("backend", BACKENDS)
def test_max_keep_is_the_beginning_of_the_whole_result(backend: str) -> None:
    generator = torch.Generator().manual_seed(1)
    corner = torch.rand(3000, 2, generator=generator) * 60
    boxes = torch.cat((corner, corner + 20 + torch.rand(3000, 2, generator=generator)), dim=1)
    scores, labels = torch.rand(3000, generator=generator), torch.randint(0, 2, (3000,), generator=generator)
    whole = batched_nms(boxes, scores, labels, 0.5, backend=backend)
    assert 20 < len(whole) < 3000
    for limit in (1, 7, len(whole) - 1, len(whole), 2999):
        assert torch.equal(batched_nms(boxes, scores, labels, 0.5, max_keep=limit, backend=backend), whole[:limit])


def test_blocks_of_the_torch_path(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes, scores, labels = random_case(5)
    whole = batched_nms(boxes, scores, labels, 0.3, backend="torch")
    monkeypatch.setattr("hatdet.ops.nms._BLOCK", 7)
    assert torch.equal(batched_nms(boxes, scores, labels, 0.3, backend="torch"), whole)


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_and_boxes_without_area(backend: str) -> None:
    empty = batched_nms(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64), 0.5, backend=backend)
    assert empty.tolist() == [] and empty.dtype == torch.int64
    points = torch.zeros(3, 4)
    kept = batched_nms(points, torch.tensor([0.1, 0.3, 0.2]), torch.zeros(3, dtype=torch.int64), 0.5, backend=backend)
    assert kept.tolist() == [1, 2, 0]


def test_wrong_arguments() -> None:
    boxes, scores, labels = torch.zeros(2, 4), torch.zeros(2), torch.zeros(2, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"must be \(N, 4\), \(N,\) and \(N,\), got \(2, 4\), \(3,\) and \(2,\)"):
        batched_nms(boxes, torch.zeros(3), labels, 0.5)
    with pytest.raises(ValueError, match=r"from 0 to 1, got 1\.5"):
        batched_nms(boxes, scores, labels, 1.5)
    with pytest.raises(ValueError, match="unknown backend 'gpu'; write 'auto', 'cv2' or 'torch'"):
        batched_nms(boxes, scores, labels, 0.5, backend="gpu")


def compared(monkeypatch: pytest.MonkeyPatch, boxes: Tensor, **options: int) -> list[int]:
    """How many boxes each attempt looks at, the best four at first."""
    counts: list[int] = []
    original = nms._kept

    def counting(candidates: Tensor, *more: object) -> Tensor:
        counts.append(len(candidates))
        return original(candidates, *more)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(nms, "_kept", counting)
        patch.setattr(nms, "_PREFIX", 4)
        scores = torch.arange(len(boxes), 0, -1).float()
        kept = batched_nms(boxes, scores, torch.zeros(len(boxes), dtype=torch.int64), 0.5, **options)  # type: ignore[arg-type]
    whole = batched_nms(boxes, scores, torch.zeros(len(boxes), dtype=torch.int64), 0.5)
    assert torch.equal(kept, whole[: options.get("max_keep")])
    return counts


def test_only_as_many_boxes_are_compared_as_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    apart = torch.tensor([[i * 20.0, 0, i * 20 + 10, 10] for i in range(100)])
    assert compared(monkeypatch, apart) == [100]
    assert compared(monkeypatch, apart, max_keep=1) == [4] and compared(monkeypatch, apart, max_keep=2) == [4]
    assert compared(monkeypatch, apart, max_keep=3) == [6] and compared(monkeypatch, apart, max_keep=99) == [100]
    assert compared(monkeypatch, apart, max_keep=100) == [100] and compared(monkeypatch, apart, max_keep=101) == [100]
    same = apart[:1].expand(100, 4)
    assert compared(monkeypatch, same, max_keep=2) == [4, 16, 64, 100]
    assert compared(monkeypatch, torch.cat((same[:15], apart)), max_keep=2) == [4, 16, 64]
    assert compared(monkeypatch, torch.cat((same[:16], apart)), max_keep=1) == [4]


@pytest.mark.parametrize("backend", BACKENDS)
def test_classes_lie_far_enough_apart(backend: str) -> None:
    """The last box of one class and the first of the next, at opposite ends of the picture."""
    boxes = torch.tensor([[-30.0, -30, -10, -10], [10, 10, 30, 30], [-30, -30, -10, -10], [10, 10, 30, 30]])
    scores, labels = torch.tensor([0.9, 0.8, 0.7, 0.6]), torch.tensor([1, 0, 2, 1])
    assert batched_nms(boxes, scores, labels, 0.0, backend=backend).tolist() == [0, 1, 2, 3]
    assert batched_nms(boxes, scores, torch.tensor([3, 3, 3, 3]), 0.0, backend=backend).tolist() == [0, 1]


@pytest.mark.parametrize("backend", BACKENDS)
def test_boxes_of_next_to_no_area_overlap_nothing(backend: str) -> None:
    """An area of 1e-12 is none; twice that is one. A side of 0 or less is none whatever the other is."""
    none = torch.zeros(2, dtype=torch.int64)
    for side, kept in ((1e-6, [0, 1]), (1.5e-6, [0])):
        tiny = torch.tensor([[0, 0, side, side]] * 2, dtype=torch.float64)
        assert batched_nms(tiny, torch.tensor([0.9, 0.8]), none, 0.5, backend=backend).tolist() == kept
    for flat in ([5, 0, 0, -5], [0, 0, 0, 5], [0, 0, 5, 0], [0, 0, 5, -5]):
        boxes = torch.tensor([flat] * 2, dtype=torch.float32)
        assert batched_nms(boxes, torch.tensor([0.9, 0.8]), none, 0.5, backend=backend).tolist() == [0, 1]


def test_limits_of_the_threshold_and_shapes() -> None:
    boxes, scores, labels = torch.zeros(2, 4), torch.zeros(2), torch.zeros(2, dtype=torch.int64)
    for threshold in (0.0, 1.0):
        assert batched_nms(boxes, scores, labels, threshold).tolist() == [0, 1]
    with pytest.raises(ValueError, match=r"from 0 to 1, got -0\.1"):
        batched_nms(boxes, scores, labels, -0.1)
    for wrong in ((torch.zeros(2, 5), scores, labels), (boxes, scores, labels[:1]), (boxes, torch.zeros(2, 1), labels)):
        with pytest.raises(ValueError, match="must be"):
            batched_nms(*wrong, 0.5)


def test_overlaps_by_hand() -> None:
    """(x, y, w, h): 10 x 10 with 10 x 5 inside (0.5), half beside it (1/3), one apart, one that touches."""
    one = torch.tensor([[0.0, 0, 10, 10]], dtype=torch.float64)
    others = torch.tensor([[0.0, 0, 10, 5], [5, 0, 10, 10], [30, 0, 10, 10], [10, 0, 10, 10], [0, 5, 10, 10],
                           [0, 30, 10, 10], [30, 30, 10, 10]]).double()  # fmt: skip
    assert nms._overlaps(one, others)[0].tolist() == pytest.approx([0.5, 1 / 3, 0, 0, 1 / 3, 0, 0])
    assert nms._overlaps(others, one)[:, 0].tolist() == pytest.approx([0.5, 1 / 3, 0, 0, 1 / 3, 0, 0])
