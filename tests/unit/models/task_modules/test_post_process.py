"""From scores to detections, by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hatdet.models.task_modules.post_process import RTMDetPostProcess

BOXES = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30], [-5, 25, 8, 60]]])


def logit(*rows: list[float]) -> Tensor:
    return torch.tensor([rows]).logit()


def test_by_hand() -> None:
    scores = logit([0.9, 0.2], [0.8, 0.3], [0.05, 0.7], [0.6, 0.1])
    (found,) = RTMDetPostProcess(score_thr=0.15, iou_threshold=0.5)(scores, BOXES, [4])
    # Class 0: prior 1 overlaps prior 0 by 0.9 and goes. Class 1: prior 0 goes for prior 1.
    assert found["labels"].tolist() == [0, 1, 0, 1]
    assert torch.allclose(found["scores"], torch.tensor([0.9, 0.7, 0.6, 0.3]))
    assert torch.equal(found["boxes"], BOXES[0, [0, 2, 3, 1]])
    assert found["labels"].dtype == torch.int64


def test_boxes_are_clipped_then_scaled_to_the_file() -> None:
    scores = logit([0.01], [0.01], [0.8], [0.9])
    (found,) = RTMDetPostProcess(score_thr=0.5)(
        scores, BOXES, [4], img_size=torch.tensor([[40, 25]]), scale_factor=torch.tensor([[0.5, 2.0]])
    )
    assert found["boxes"].tolist() == [[0, 12.5, 16, 20], [40, 10, 50, 15]]


def test_boxes_that_clipping_leaves_empty_are_dropped() -> None:
    (found,) = RTMDetPostProcess()(logit([0.5], [0.4], [0.9], [0.3]), BOXES, [4], img_size=torch.tensor([[20, 20]]))
    assert found["scores"].tolist() == pytest.approx([0.5])  # the second overlaps it, the others lie outside


def test_one_label_a_prior() -> None:
    scores = logit([0.6, 0.7], [0.0001, 0.0002], [0.5, 0.5], [0.0001, 0.0002])
    (found,) = RTMDetPostProcess(multi_label=False)(scores, BOXES, [4])
    assert found["labels"].tolist() == [1, 0]  # of equal scores the first class
    (found,) = RTMDetPostProcess()(scores, BOXES, [4])
    assert found["labels"].tolist() == [1, 0, 0, 1]


def test_best_of_each_level_and_of_the_image() -> None:
    scores = logit([0.9], [0.8], [0.7], [0.6])
    distinct = torch.tensor([[[i * 20.0, 0, i * 20 + 10, 10] for i in range(4)]])
    (found,) = RTMDetPostProcess(nms_pre=1)(scores, distinct, [3, 1])
    assert found["scores"].tolist() == pytest.approx([0.9, 0.6])
    (found,) = RTMDetPostProcess(max_per_img=2)(scores, distinct, [3, 1])
    assert found["scores"].tolist() == pytest.approx([0.9, 0.8])


def test_equal_scores_come_by_level_position_class() -> None:
    distinct = torch.tensor([[[i * 20.0, 0, i * 20 + 10, 10] for i in range(4)]])
    (found,) = RTMDetPostProcess(nms_pre=3)(torch.zeros(1, 4, 2), distinct, [3, 1])
    assert [(b[0], k) for b, k in zip(found["boxes"].tolist(), found["labels"].tolist(), strict=True)] == [
        (0, 0),
        (0, 1),
        (20, 0),
        (60, 0),
        (60, 1),
    ]


def test_nothing_found_and_a_batch() -> None:
    scores = torch.cat((logit([0.9], [0.1]), torch.full((1, 2, 1), -50.0)))
    first, second = RTMDetPostProcess()(scores, BOXES[:, :2].expand(2, 2, 4), [1, 1])
    assert first["scores"].tolist() == pytest.approx([0.9])
    assert {key: tuple(value.shape) for key, value in second.items()} == {
        "boxes": (0, 4),
        "scores": (0,),
        "labels": (0,),
    }


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"between 0 and 1, got 1\.0 and 0\.65"):
        RTMDetPostProcess(score_thr=1.0)
    with pytest.raises(ValueError, match="nms_pre and max_per_img must be at least 1, got 0 and 300"):
        RTMDetPostProcess(nms_pre=0)


def test_scores_do_not_depend_on_where_a_value_stands() -> None:
    """torch's own float32 sigmoid rounds the end of a row differently: 7 priors and 1 prior must agree."""
    logits = torch.linspace(-5, 5, 7 * 61).reshape(61, 7, 1)
    boxes = torch.tensor([[i * 20.0, 0, i * 20 + 10, 10] for i in range(7)])
    process = RTMDetPostProcess()
    for row in logits:
        (whole,) = process(row[None], boxes[None], [7])
        alone = [process(row[None, i : i + 1], boxes[None, i : i + 1], [1])[0]["scores"] for i in range(7)]
        assert torch.equal(whole["scores"].sort().values, torch.cat(alone).sort().values)


def test_metadata() -> None:
    known = dict(score_thr=0.1, nms_pre=7, iou_threshold=0.4, max_per_img=9, multi_label=False, nms_type="soft_linear")
    assert RTMDetPostProcess(**known).metadata() == {"type": "RTMDetPostProcess", **known}
