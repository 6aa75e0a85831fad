from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hatdet.metrics.coco import COCODetectionMetric
from hatdet.metrics.curves import confusion_matrix, detection_curves, match_image, pairwise_iou
from hatdet.metrics.records import Boxes


def boxes(*rows: tuple[float, ...], crowd: tuple[bool, ...] | None = None) -> Boxes:
    """Rows of image id, label, x1, y1, x2, y2, score."""
    table = np.array(rows, np.float64).reshape(-1, 7)
    return Boxes(
        image_ids=table[:, 0].astype(np.int64), labels=table[:, 1].astype(np.int64), boxes=table[:, 2:6],
        scores=table[:, 6], crowd=np.array(crowd or [False] * len(table), bool),
    )  # fmt: skip


def test_iou_by_hand() -> None:
    ious = pairwise_iou(np.array([[0.0, 0, 10, 10]]), np.array([[0.0, 0, 10, 5], [5, 5, 15, 15], [20, 20, 30, 30]]))
    np.testing.assert_allclose(ious, [[0.5, 25 / 175, 0.0]])
    inside = pairwise_iou(np.array([[0.0, 0, 10, 10]]), np.array([[0.0, 0, 100, 100]]), np.array([True]))
    assert inside[0, 0] == 1.0
    assert pairwise_iou(np.zeros((1, 4)), np.zeros((1, 4)))[0, 0] == 0.0  # two empty boxes: no division by zero


def test_match_takes_each_object_once() -> None:
    truth = boxes((1, 0, 0, 0, 10, 10, 1), (1, 1, 50, 50, 90, 90, 1), crowd=(False, True))
    found = boxes(
        (1, 0, 0, 0, 10, 9, 0.5),  # second best score on the object: already taken
        (1, 0, 0, 0, 10, 8, 0.9),  # takes the object
        (1, 1, 60, 60, 70, 70, 0.8),  # inside the crowd of its class
        (1, 0, 60, 60, 70, 70, 0.8),  # the crowd is of another class
    )
    assert match_image(truth, found).tolist() == [0, 1, -1, 0]


def test_curves_by_hand() -> None:
    """Two objects; detections 0.9 right, 0.6 wrong, 0.3 right."""
    truth = boxes((1, 0, 0, 0, 10, 10, 1), (2, 0, 0, 0, 10, 10, 1))
    found = boxes((1, 0, 0, 0, 10, 10, 0.9), (1, 0, 50, 50, 60, 60, 0.6), (2, 0, 0, 0, 10, 10, 0.3))
    curves = detection_curves(truth, found, num_classes=2, num_points=11)
    np.testing.assert_allclose(curves.precision[0], [2 / 3] * 4 + [0.5] * 3 + [1, 1, 1, 1])
    np.testing.assert_allclose(curves.recall[0], [1] * 4 + [0.5] * 5 + [0.5, 0])
    assert curves.f1[0, 0] == pytest.approx(0.8) and curves.f1[0, 10] == 0
    assert curves.best_threshold() == (0.0, pytest.approx(0.8))
    np.testing.assert_allclose(curves.average_precision[0], (51 * 1 + 50 * 2 / 3) / 101)
    assert np.isnan(curves.average_precision[1]) and curves.num_objects.tolist() == [2, 0]


def test_average_precision_equals_coco(random_data: Any) -> None:
    truth, predictions, images = random_data

    class Data:
        category_ids = (9, 1, 40)

        def coco_annotations(self) -> dict[str, Any]:
            return truth

    metric = COCODetectionMetric(dataset=Data())
    metric.update(predictions, {"img_id": images})
    metric.compute()
    for iou_index, iou in ((0, 0.5), (5, 0.75)):
        curves = detection_curves(metric.ground_truth_boxes(), metric.detection_boxes(), 3, iou)
        coco = metric.arrays.precision[iou_index, :, :, 0, 2].mean(axis=0)  # by ascending id: labels 1, 0, 2
        np.testing.assert_allclose(curves.average_precision[[1, 0, 2]], coco, atol=1e-12)


def test_confusion_matrix_by_hand() -> None:
    truth = boxes(
        (1, 0, 0, 0, 10, 10, 1),
        (1, 1, 20, 0, 30, 10, 1),
        (1, 1, 40, 0, 50, 10, 1),
        (1, 0, 60, 60, 99, 99, 1),
        crowd=(False, False, False, True),
    )
    found = boxes(
        (1, 0, 0, 0, 10, 10, 0.9),  # right
        (1, 0, 20, 0, 30, 10, 0.9),  # class 1 taken for class 0
        (1, 1, 80, 0, 90, 10, 0.9),  # nothing there
        (1, 1, 70, 70, 80, 80, 0.9),  # inside the crowd region: does not count
        (1, 1, 40, 0, 50, 10, 0.1),  # below the threshold, so the third object is missed
        (2, 0, 0, 0, 10, 10, 0.9),  # an image without objects
    )
    expected = [[1, 0, 0], [1, 0, 1], [1, 1, 0]]
    assert confusion_matrix(truth, found, 2).tolist() == expected


def test_nothing_at_all() -> None:
    empty = boxes()
    curves = detection_curves(empty, empty, 2)
    assert np.isnan(curves.f1).all() and np.isnan(curves.best_threshold()[1])
    assert confusion_matrix(empty, empty, 2).sum() == 0
    missed = detection_curves(boxes((1, 0, 0, 0, 9, 9, 1)), empty, 1)
    assert missed.average_precision[0] == 0 and missed.recall[0].max() == 0
