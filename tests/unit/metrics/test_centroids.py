"""F1 of points against numbers worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from hatdet.metrics.centroids import CentroidMetric


class Data:
    """Picture 1: objects of class a, 10 x 10 at (0, 0) and (100, 100), and a crowd at (50, 50); picture 2: one of b."""

    classes = ("a", "b", "c")
    category_ids = (1, 2, 3)

    def coco_annotations(self) -> dict[str, Any]:
        rows = [(1, 1, 0, 0), (1, 1, 100, 0), (1, 1, 50, 1), (2, 2, 20, 0)]
        annotations = [
            {"id": n, "image_id": i, "category_id": c, "bbox": [x, x, 10, 10], "area": 100, "iscrowd": crowd}
            for n, (i, c, x, crowd) in enumerate(rows, 1)
        ]
        categories = [{"id": i, "name": name} for i, name in zip(self.category_ids, self.classes, strict=True)]
        images = [{"id": i, "file_name": str(i), "width": 200, "height": 200} for i in (1, 2)]
        return {"images": images, "annotations": annotations, "categories": categories}


def point(x: float, y: float) -> list[float]:
    return [x - 2, y - 2, x + 2, y + 2]


def measured(
    first: list[tuple[list[float], float, int]], second: list[tuple[list[float], float, int]], **options: Any
) -> tuple[dict[str, float], str]:
    metric = CentroidMetric(backend="pycocotools", **options)
    metric.bind(Data())
    predictions = [
        {"boxes": [r[0] for r in rows], "scores": [r[1] for r in rows], "labels": [r[2] for r in rows]}
        for rows in (first, second)
    ]
    metric.update(predictions, {"img_id": [1, 2], "scale_factor": [[0.5, 0.25]] * 2})
    values = metric.compute()
    return values, metric.format(values)


def test_right_wrong_and_ignored() -> None:
    first = [
        (point(5, 5), 0.9, 0),  # right
        (point(6, 6), 0.8, 0),  # the same object again: wrong
        (point(55, 55), 0.7, 0),  # in the crowd: does not count
        (point(90, 90), 0.6, 0),  # 15 right and below of the middle (105, 105): 7.5 and 3.75 network pixels, 8.4: wrong
        (point(5, 5), 0.3, 1),  # of another class: wrong
    ]
    second = [(point(11, 25), 0.5, 1)]  # 14 left of the middle (25, 25): 7 network pixels, within a cell of 8: right
    values, text = measured(first, second)
    # By score, F1 of a (two objects): 2/3, 2/4, 2/4, 2/5, 2/5, 2/5; of b (one): 0, 0, 0, 0, 1, 2/3: best (2/5 + 1) / 2.
    assert values["F1"] == pytest.approx(0.7)
    assert (values["precision"], values["recall"]) == (pytest.approx((1 / 3 + 1) / 2), pytest.approx((1 / 2 + 1) / 2))
    assert values["threshold"] == pytest.approx((0.5 + 0.3) / 2)
    # Above 0.5: of a one right, two wrong; of b nothing (the score of 0.5 itself is not above).
    assert values["F1@0.50"] == pytest.approx((2 / 5 + 0) / 2)
    assert (values["precision@0.50"], values["recall@0.50"]) == (pytest.approx(1 / 3 / 2), pytest.approx(1 / 2 / 2))
    # Of a: right, wrong, wrong of two objects: 2 / 5. Of b: 1. There is no c.
    assert (values["F1/a"], values["F1/b"], values["F1/c"]) == (pytest.approx(2 / 5), 1.0, -1.0)
    # a: 3 found (the crowd's does not count), 2 there: 1 too many; b: equal; over two pictures.
    assert values["count_error"] == pytest.approx(1 / 2)
    assert list(values)[:5] == ["F1", "precision", "recall", "threshold", "count_error"] and "AP" in values
    assert "F1 0.700 (precision 0.667, recall 0.750) at the best threshold, 0.400; 0.50 objects too many" in text
    assert "a 0.400, b 1.000, c -" in text
    assert "of the boxes (COCO): near 0" in text and "Average Precision" not in text


def test_a_point_in_the_box_is_right_however_far_from_the_middle() -> None:
    values, _ = measured([(point(10, 0), 0.9, 0)], [], distance=0)  # on the corner of the box (0, 0, 10, 10)
    assert values["recall"] == pytest.approx((1 / 2 + 0) / 2)
    values, _ = measured([(point(10.5, 0), 0.9, 0)], [], distance=0)
    assert values["F1"] == 0.0 and values["threshold"] == 0.5


def test_the_nearest_free_object_is_taken() -> None:
    first = [(point(9, 9), 0.9, 0), (point(5, 5), 0.8, 0)]
    values, _ = measured(first, [], distance=100)  # the second takes the far one, which is the only one left
    assert (values["precision"], values["recall"]) == (0.5, 0.5)  # all of a, nothing of b


def test_equal_scores_stand_or_fall_together() -> None:
    first = [(point(5, 5), 0.9, 0), (point(150, 5), 0.9, 0)]
    values, _ = measured(first, [])
    assert values["precision"] == (0.5 + 0) / 2 and values["threshold"] == pytest.approx(0.45)


def test_processes_are_merged_with_their_scales() -> None:
    found = {"boxes": [point(11, 25)], "scores": [0.5], "labels": [1]}
    parts = [CentroidMetric(dataset=Data(), backend="pycocotools") for _ in range(2)]
    parts[0].update([{"boxes": [], "scores": [], "labels": []}], {"img_id": [1], "scale_factor": [[1.0, 1.0]]})
    parts[1].update([found], {"img_id": [2], "scale_factor": [[0.5, 0.25]]})
    whole = CentroidMetric(dataset=Data(), backend="pycocotools")
    whole.merge([part.state() for part in parts])
    assert whole.compute()["recall"] == pytest.approx((0 + 1) / 2)
    assert whole.best_threshold() == pytest.approx(0.25)


def test_boxes_that_overlap_are_told_as_cocos() -> None:
    values, text = measured([([0, 0, 10, 10], 0.9, 0), ([100, 100, 110, 110], 0.8, 0)], [([20, 20, 30, 30], 0.7, 1)])
    assert values["AP"] == values["F1"] == 1.0 and values["count_error"] == 0.0
    assert "Average Precision" in text and text.startswith("Points: ")


def test_numbers_out_of_range() -> None:
    with pytest.raises(ValueError, match="distance is at least 0, cell at least 1 and score_thr"):
        CentroidMetric(cell=0)
    with pytest.raises(ValueError, match="call compute"):
        CentroidMetric().best_threshold()
