"""The dynamic soft label assignment: by hand, and against its definition written as loops."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from hatdet.models.task_modules.assign_result import AssignResult
from hatdet.models.task_modules.dynamic_soft_label_assigner import DynamicSoftLabelAssigner
from hatdet.models.task_modules.priors import MlvlPointGenerator
from hatdet.ops.boxes import pairwise_iou
from tests.helpers.rtmdet import pad_ground_truth

PRIORS = torch.tensor([[8.0, 8, 8, 8], [16, 8, 8, 8], [40, 8, 8, 8]])
BOX_A, BOX_B = [4.0, 4, 20, 12], [36.0, 0, 44, 16]


def assign(
    pred: list[list[float]], boxes: list[list[float]], labels: list[int], logits: Tensor | None = None
) -> AssignResult:
    truth = pad_ground_truth([torch.tensor(boxes)], [torch.tensor(labels, dtype=torch.int64)])
    logits = torch.zeros(1, len(pred), 2) if logits is None else logits
    priors = PRIORS[: len(pred)]
    return DynamicSoftLabelAssigner()(torch.tensor([pred]), logits, priors, truth["gt_boxes"], truth["gt_labels"])


def test_three_priors_two_boxes() -> None:
    # IoU with A: 1, 64/128, 0: their sum 1.5 allows one prior. With B: 0, 0, 1.
    result = assign([BOX_A, [4, 4, 12, 12], BOX_B], [BOX_A, BOX_B], [1, 0])
    assert result.gt_inds.tolist() == [[1, 0, 2]]
    assert result.labels.tolist() == [[1, -1, 0]]
    assert result.metrics.tolist() == [[1, 0, 1]]


def test_a_sum_of_two_overlaps_allows_two_priors() -> None:
    result = assign([BOX_A, BOX_A, BOX_B], [BOX_A, BOX_B], [1, 0])
    assert result.gt_inds.tolist() == [[1, 1, 2]]


def test_the_class_score_decides_between_equal_boxes() -> None:
    # Both priors are 4 pixels from the centre of A and predict half of it (0.5 + 0.5 = 1: one prior).
    pred = [[4.0, 4, 12, 12], [12.0, 4, 20, 12]]
    sure_of_other_class, sure = [3.0, -3.0], [-3.0, 3.0]
    for logits, expected in (([sure, sure_of_other_class], [1, 0]), ([sure_of_other_class, sure], [0, 1])):
        assert assign(pred, [BOX_A], [1], torch.tensor([logits])).gt_inds.tolist() == [expected]


def test_equal_costs_go_to_the_lower_index() -> None:
    assert assign([[4.0, 4, 12, 12], [12.0, 4, 20, 12]], [BOX_A], [1]).gt_inds.tolist() == [[1, 0]]
    # The same box twice: both take the same prior at the same cost; the first one gets it.
    assert assign([BOX_A], [BOX_A, BOX_A], [0, 0]).gt_inds.tolist() == [[1]]


def test_a_prior_that_two_boxes_took_goes_to_the_cheaper() -> None:
    inner = [4.0, 4, 12, 12]  # half of A, and the prediction
    assert assign([inner], [BOX_A, inner], [0, 0]).gt_inds.tolist() == [[2]]
    assert assign([inner], [inner, BOX_A], [0, 0]).gt_inds.tolist() == [[1]]
    assert assign([BOX_A], [BOX_A, inner], [0, 0]).gt_inds.tolist() == [[1]]


def test_candidates_lie_strictly_inside() -> None:
    # Both corners of this box are priors, on its border: nothing to assign.
    result = assign([BOX_A, BOX_A], [[8.0, 8, 16, 16]], [0])
    assert result.gt_inds.tolist() == [[0, 0]]
    assert result.metrics.tolist() == [[0, 0]]


def test_a_box_without_a_prior_of_its_own_takes_the_nearest_candidate() -> None:
    tiny = [17.0, 9, 18, 10]  # between the priors; the only candidates are those of A
    result = assign([BOX_A, tiny], [BOX_A, tiny], [0, 1])
    assert result.gt_inds.tolist() == [[1, 2]]
    assert result.labels.tolist() == [[0, 1]]


def test_no_ground_truth() -> None:
    truth = pad_ground_truth([torch.zeros(0, 4)] * 2, [torch.zeros(0, dtype=torch.int64)] * 2)
    result = DynamicSoftLabelAssigner()(torch.zeros(2, 3, 4), torch.zeros(2, 3, 5), PRIORS, **truth)
    assert result.gt_inds.abs().sum() == 0 and (result.labels == -1).all() and result.metrics.sum() == 0


def test_topk_must_be_positive() -> None:
    with pytest.raises(ValueError, match="topk must be at least 1, got 0"):
        DynamicSoftLabelAssigner(topk=0)


def by_definition(
    pred: Tensor, logits: Tensor, priors: Tensor, boxes: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor, int]:
    """One image, pair by pair, in float64: gt_inds, metrics, how many priors several boxes took."""
    gt_inds, metrics = torch.zeros(len(priors), dtype=torch.int64), torch.zeros(len(priors))
    pred, logits, boxes = pred.double(), logits.double(), boxes.double()
    ious = pairwise_iou(boxes, pred)
    valid = [
        p
        for p, (x, y, *_) in enumerate(priors.tolist())
        if any(x1 < x < x2 and y1 < y < y2 for x1, y1, x2, y2 in boxes.tolist())
    ]
    cost: dict[tuple[int, int], float] = {}
    for g, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        for p in valid:
            x, y, stride, _ = priors[p].tolist()
            iou = ious[g, p].item()
            target = torch.zeros_like(logits[p])
            target[labels[g]] = iou
            entropy = torch.nn.functional.binary_cross_entropy_with_logits(logits[p], target, reduction="none")
            classes = (entropy * (target - logits[p].sigmoid()) ** 2).sum().item()
            distance = math.hypot(x - (x1 + x2) / 2, y - (y1 + y2) / 2) / stride
            cost[g, p] = classes - 3 * math.log(iou + 1e-7) + 10 ** (distance - 3)
    takers: dict[int, list[int]] = {}
    for g in range(len(boxes)):
        best = sorted((ious[g, p].item() for p in valid), reverse=True)[:13]
        wanted = max(int(sum(best)), 1)
        for p in sorted(valid, key=lambda p: (cost[g, p], p))[:wanted]:
            takers.setdefault(p, []).append(g)
    for p, rows in takers.items():
        g = rows[0] if len(rows) == 1 else min(range(len(boxes)), key=lambda g: (cost[g, p], g))
        gt_inds[p], metrics[p] = g + 1, ious[g, p]
    return gt_inds, metrics, sum(len(rows) > 1 for rows in takers.values())


def random_batch(seed: int, counts: list[int]) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    priors = MlvlPointGenerator(strides=(8, 16)).grid_priors([(8, 11), (4, 6)])
    reach = 4 + torch.rand(len(counts), len(priors), 4, generator=generator) * 24
    pred = torch.cat((priors[:, :2] - reach[..., :2], priors[:, :2] + reach[..., 2:]), dim=2)
    logits = torch.randn(len(counts), len(priors), 4, generator=generator) * 2
    corners = [torch.rand(n, 2, generator=generator) * 50 for n in counts]
    boxes = [torch.cat((c, c + 3 + torch.rand(len(c), 2, generator=generator) * 35), dim=1) for c in corners]
    labels = [torch.randint(0, 4, (n,), generator=generator) for n in counts]
    return pred, logits, priors, pad_ground_truth(boxes, labels)


@pytest.mark.parametrize("block", [1, 300, 1 << 17])
def test_against_the_definition(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hatdet.models.task_modules.dynamic_soft_label_assigner._BLOCK", block)
    conflicts = 0
    for seed, counts in enumerate(([3, 0, 7], [1], [12, 2], [0, 5], [6, 6, 6, 6])):
        pred, logits, priors, truth = random_batch(seed, counts)
        result = DynamicSoftLabelAssigner()(pred, logits, priors, **truth)
        for i, count in enumerate(counts):
            boxes, labels = truth["gt_boxes"][i, :count], truth["gt_labels"][i, :count]
            gt_inds, metrics, contested = by_definition(pred[i], logits[i], priors, boxes, labels)
            assert torch.equal(result.gt_inds[i], gt_inds)
            assert torch.allclose(result.metrics[i], metrics, atol=1e-6)
            expected = torch.cat((torch.tensor([-1]), labels))[gt_inds]
            assert torch.equal(result.labels[i], expected)
            conflicts += int((pairwise_iou(boxes, boxes) > 0.3).sum()) - count
    assert conflicts > 10, "boxes must compete for priors"


def test_padding_anywhere_changes_nothing_but_the_numbers() -> None:
    pred, logits, priors, truth = random_batch(7, [5])
    plain = DynamicSoftLabelAssigner()(pred, logits, priors, **truth)
    spread = {
        "gt_boxes": torch.zeros(1, 11, 4).index_copy(1, torch.arange(1, 11, 2), truth["gt_boxes"]),
        "gt_labels": torch.full((1, 11), -1).index_copy(1, torch.arange(1, 11, 2), truth["gt_labels"]),
    }
    result = DynamicSoftLabelAssigner()(pred, logits, priors, **spread)
    assert torch.equal(result.labels, plain.labels) and torch.equal(result.metrics, plain.metrics)
    assert torch.equal(result.gt_inds, 2 * plain.gt_inds)  # slot 0 -> slot 1, and so on
