"""RetinaNet's post-processing on maps whose detections are known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hatdet.models.task_modules.retinanet_post_process import RetinaNetPostProcess

Level = tuple[list[list[float]], list[list[float]]]


def run(process: RetinaNetPostProcess, levels: list[Level], **batch: Tensor) -> dict[str, Tensor]:
    """Detections of one image whose predicted boxes are the anchors: (scores, anchors) of each level."""
    logits, boxes = (torch.cat([torch.tensor(level[i]).float() for level in levels])[None] for i in (0, 1))
    (found,) = process(logits.logit(), boxes, [len(scores) for scores, _ in levels], **batch)
    return found


def labels_and_scores(result: dict[str, Tensor]) -> list[tuple[int, float]]:
    return [(int(a), round(float(b), 4)) for a, b in zip(result["labels"], result["scores"], strict=True)]


FAR = [[0.0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10], [60, 0, 70, 10]]


def test_pairs_above_the_threshold_best_first() -> None:
    found = run(RetinaNetPostProcess(), [([[0.9, 0.06], [0.04, 0.5], [0.01, 0.049], [0.0, 0.0]], FAR)])
    assert labels_and_scores(found) == [(0, 0.9), (1, 0.5), (1, 0.06)]
    assert found["boxes"].tolist() == [FAR[0], FAR[1], FAR[0]]


def test_suppression_is_by_class_and_across_levels() -> None:
    near = [[0.0, 0, 10, 10], [0, 0, 10, 9]]
    levels = [([[0.9, 0.2], [0.8, 0.3]], near), ([[0.95, 0.1]], [[0.0, 1, 10, 10]])]
    found = run(RetinaNetPostProcess(nms_thresh=0.5), levels)
    assert labels_and_scores(found) == [(0, 0.95), (1, 0.3)]


def test_topk_is_of_each_level() -> None:
    first = ([[0.9], [0.8], [0.7], [0.6]], FAR)
    second = ([[0.5], [0.4]], [[0.0, 50, 10, 60], [20, 50, 30, 60]])
    found = run(RetinaNetPostProcess(topk_candidates=2), [first, second])
    assert [s for _, s in labels_and_scores(found)] == [0.9, 0.8, 0.5, 0.4]
    few = run(RetinaNetPostProcess(detections_per_img=3), [first, second])
    assert [s for _, s in labels_and_scores(few)] == [0.9, 0.8, 0.7]


def test_equal_scores_are_taken_in_order() -> None:
    found = run(RetinaNetPostProcess(topk_candidates=3), [([[0.5, 0.5]] * 4, FAR)])
    assert [(int(label), int(x)) for label, x in zip(found["labels"], found["boxes"][:, 0])] == [
        (0, 0),
        (1, 0),
        (0, 20),
    ]


def test_only_kept_anchors_are_looked_at() -> None:
    kept = torch.tensor([[False, True, False, True]])
    found = run(RetinaNetPostProcess(), [([[0.9, 0.1], [0.1, 0.8], [0.7, 0.7], [0.6, 0.01]], FAR)], passing=kept)
    assert labels_and_scores(found) == [(1, 0.8), (0, 0.6), (0, 0.1)]
    assert found["boxes"].tolist() == [FAR[1], FAR[3], FAR[1]]


def test_scores_are_multiplied_by_the_sigmoid_of_their_factors() -> None:
    half, three_quarters = 0.0, 1.0986123
    factors = torch.tensor([[[half], [three_quarters], [half], [-9.0]]])
    found = run(RetinaNetPostProcess(score_thresh=0.3), [([[0.9], [0.8], [0.5], [0.99]], FAR)], factors=factors)
    assert labels_and_scores(found) == [(0, 0.6), (0, 0.45)]


def test_boxes_are_clipped_to_the_picture_and_scaled_back() -> None:
    one = ([[0.9], [0.8]], [[-5.0, 2, 30, 50], [41, 0, 60, 10]])
    clip = dict(img_size=torch.tensor([[20, 40]]), scale_factor=torch.tensor([[2.0, 0.5]]))
    found = run(RetinaNetPostProcess(), [one], **clip)
    assert found["boxes"].tolist() == [[0, 4, 15, 40]]  # the second one lies outside: nothing is left of it
    assert found["scores"].tolist() == pytest.approx([0.9])


def test_nothing_found() -> None:
    found = run(RetinaNetPostProcess(), [([[0.01]], [[0.0, 0, 1, 1]])])
    assert found["boxes"].shape == (0, 4) and found["scores"].shape == (0,) and found["labels"].dtype == torch.int64


@pytest.mark.parametrize("bad", [{"score_thresh": 1.0}, {"nms_thresh": -0.1}, {"topk_candidates": 0}])
def test_refuses(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="between 0 and 1|at least 1"):
        RetinaNetPostProcess(**bad)  # type: ignore[arg-type]
