"""Partial selection and the shortlist against full stable sorts, with many equal scores."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hatdet.models.task_modules.post_process import DetectionPostProcess
from hatdet.ops.nms import batched_nms, best_first, best_in_order
from tests.unit.ops.test_nms import random_case


def drawn(seed: int, count: int) -> Tensor:
    """Scores of few values, of many, and with NaN and infinities."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(0, (1, 3, 40, 10_000)[seed % 4], (count,), generator=generator) / 7
    if seed % 5 == 0:
        scores[torch.rand(count, generator=generator) < 0.1] = torch.tensor(float("nan"))
    if seed % 5 == 1:
        scores[torch.rand(count, generator=generator) < 0.2] = torch.tensor(float("-inf"))
    return scores


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.int64])
def test_the_best_are_those_of_a_stable_sort(dtype: torch.dtype) -> None:
    for seed in range(20):
        scores = drawn(seed, 1 + 37 * seed)
        scores = (scores.nan_to_num(neginf=-1) * 7).long() if dtype == torch.int64 else scores.to(dtype)
        order = torch.sort(scores, descending=True, stable=True).indices
        for number in (1, 2, 17, len(scores) // 2 + 1, max(1, len(scores) - 1), len(scores), len(scores) + 5):
            assert torch.equal(best_first(scores, number), order[:number]), (seed, number)
            assert torch.equal(best_in_order(scores, number), order[:number].sort().values), (seed, number)
    assert best_first(torch.zeros(0), 3).tolist() == [] and best_in_order(torch.zeros(0), 0).tolist() == []
    assert best_in_order(torch.tensor([1.0, 2.0, 2.0, 3.0]), 2).tolist() == [1, 3]


@pytest.mark.parametrize("backend", ["cv2", "torch"])
def test_classes_apart_are_classes_together(backend: str) -> None:
    """Each class alone gives what all give together, in whatever order labels come."""
    for seed in range(30):
        boxes, scores, labels = random_case(seed)
        labels = labels * 5 - 3
        kept = batched_nms(boxes, scores, labels, 0.5, backend=backend)
        alone = torch.zeros(len(scores), dtype=torch.bool)
        for label in labels.unique():
            index = (labels == label).nonzero().squeeze(1)
            alone[index[batched_nms(boxes[index], scores[index], labels[index], 0.5, backend=backend)]] = True
        assert torch.equal(kept.sort().values, alone.nonzero().squeeze(1))
        order = torch.sort(scores[kept], descending=True, stable=True).indices
        assert torch.equal(order, torch.arange(len(kept)))


def plainly(process: DetectionPostProcess, scores: Tensor, boxes: Tensor, sizes: list[int]) -> dict[str, Tensor]:
    """Every step on everything: full sorts of each level, then of the image."""
    labels = None
    if not process.multi_label:
        scores, labels = scores.max(dim=1, keepdim=True)
    classes = scores.shape[1]
    kept: list[tuple[int, float]] = []
    start = 0
    for size in sizes:
        level = [(i, float(s)) for i, s in enumerate(scores.flatten()[start : start + size * classes].tolist(), start)]
        level = [pair for pair in level if pair[1] > process.score_thr]
        best = sorted(level, key=lambda pair: -pair[1])[: process.nms_pre]
        kept += sorted(best)
        start += size * classes
    index = torch.tensor([i for i, _ in kept], dtype=torch.int64)
    prior = index // classes
    label = index % classes if labels is None else labels[prior, 0]
    found, values = boxes[prior], scores.flatten()[index]
    solid = (found[:, 2] > found[:, 0]) & (found[:, 3] > found[:, 1])
    found, values, label = found[solid], values[solid], label[solid]
    keep = batched_nms(found, values, label, process.iou_threshold)[: process.max_per_img]
    return {"boxes": found[keep], "scores": values[keep], "labels": label[keep]}


@pytest.mark.parametrize("multi_label", [True, False])
def test_the_shortlist_changes_nothing(multi_label: bool) -> None:
    """Many and few classes, scores of few values, boxes that suppress nearly all others, levels cut and whole."""
    sizes, ended_early = [400, 100, 25], 0
    for seed in range(12):
        generator = torch.Generator().manual_seed(seed)
        classes = (1, 3, 20)[seed % 3]
        scores = torch.randint(0, (4, 60, 5000)[seed % 4 % 3], (1, 525, classes), generator=generator) / 5000
        corner = torch.rand(1, 525, 2, generator=generator) * (300 if seed % 2 else 5)
        sides = torch.randint(0, 9, (1, 525, 2), generator=generator) * 5.0
        boxes = torch.cat((corner, corner + sides), dim=2)
        for nms_pre, most in ((30_000, 10), (300, 100), (40, 20), (1, 2)):
            process = DetectionPostProcess(
                score_thr=0.0002, nms_pre=nms_pre, max_per_img=most, multi_label=multi_label, iou_threshold=0.5
            )
            found, wanted = process.from_scores(scores, boxes, sizes)[0], plainly(process, scores[0], boxes[0], sizes)
            ended_early += len(found["scores"]) == most
            for name in ("boxes", "scores", "labels"):
                assert torch.equal(found[name], wanted[name]), (seed, nms_pre, name)
    assert 0 < ended_early < 48  # both ways are taken
