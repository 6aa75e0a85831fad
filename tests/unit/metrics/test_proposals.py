"""Recall of proposals against numbers worked out by hand."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from hatdet.metrics.coco import COCODetectionMetric
from hatdet.metrics.proposals import COCOProposalMetric
from hatdet.metrics.several import Metrics


class Data:
    """Two pictures; boxes 40 x 40 (medium) and one of 10 x 10 (small), of different classes."""

    classes = ("a", "b")
    category_ids = (3, 7)

    def coco_annotations(self) -> dict[str, Any]:
        images = [{"id": i, "file_name": str(i), "width": 300, "height": 300} for i in (1, 2)]
        boxes = [(1, 3, [0, 0, 40, 40]), (1, 7, [100, 100, 40, 40]), (2, 7, [50, 50, 10, 10])]
        annotations = [
            {"id": n, "image_id": i, "category_id": c, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
            for n, (i, c, box) in enumerate(boxes, 1)
        ]
        return {"images": images, "annotations": annotations,
                "categories": [{"id": 3, "name": "a"}, {"id": 7, "name": "b"}]}  # fmt: skip


@pytest.fixture
def metric() -> COCOProposalMetric:
    made = COCOProposalMetric(proposal_nums=(1, 2, 1000), backend="pycocotools")
    made.bind(Data())
    return made


def test_recall_at_limits(metric: COCOProposalMetric) -> None:
    found = {"boxes": [[200, 200, 210, 210], [100, 100, 140, 140], [0, 0, 40, 40]], "scores": [0.9, 0.8, 0.7]}
    nothing = {"boxes": np.zeros((0, 4)), "scores": [], "labels": []}
    metric.update([{**found, "labels": [0, 5, 9]}, nothing], {"img_id": [1, 2]})  # labels do not count
    values = metric.compute()
    assert values["AR@1"] == 0 and values["AR@2"] == pytest.approx(1 / 3) and values["AR@1000"] == pytest.approx(2 / 3)
    assert values["ARs@1000"] == 0 and values["ARm@1000"] == 1 and values["ARl@1000"] == -1
    assert metric.classes == ("object",) and "AP" in values


def test_what_overlaps_a_little_counts_at_some_thresholds(metric: COCOProposalMetric) -> None:
    # IoU 40 * 31 / (40 * 40) = 0.775: found at 0.5, 0.55, ... 0.75, six of ten
    metric.update([{"boxes": [[0, 0, 40, 31]], "scores": [1.0], "labels": [0]}], {"img_id": [1]})
    assert metric.compute()["AR@1000"] == pytest.approx(0.6 / 3)


def test_boxes_and_proposals_of_one_validation() -> None:
    boxes = COCODetectionMetric(backend="pycocotools", classwise=False)
    both = Metrics(metrics=[boxes, COCOProposalMetric(proposal_nums=(1, 2, 1000), backend="pycocotools")])
    other = copy.deepcopy(both)
    for metric in (both, other):
        metric.bind(Data())
    # The right place, as a wrong class: nothing for AP, one of three objects for the recall of proposals.
    right = {"boxes": [[0, 0, 40, 40]], "scores": [1.0], "labels": [1]}
    nothing: dict[str, Any] = {"boxes": np.zeros((0, 4)), "scores": [], "labels": []}
    both.update([right], {"img_id": [1]})
    other.update([nothing], {"img_id": [2]})
    both.merge([both.state(), other.state()])
    values = both.compute()
    assert values["AP"] == 0 and values["AR@1000"] == pytest.approx(1 / 3)
    text = both.format(values)
    assert both.classes == ("a", "b") and "Average Precision" in text and text.count("Average Recall") > 6
    both.reset()
    assert both.compute()["AR@1000"] == 0
    with pytest.raises(ValueError, match="metrics is empty"):
        Metrics(metrics=[])
