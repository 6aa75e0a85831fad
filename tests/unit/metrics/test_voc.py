"""Pascal VOC's mean average precision against numbers worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hatdet.metrics.voc import VOCMetric, average_precision
from tests.helpers.components import made


class Data:
    """A picture with two objects and a difficult one, of 10 x 10 pixels each, of class a; b has an object elsewhere."""

    classes = ("a", "b", "c")
    category_ids = (1, 2, 3)

    def coco_annotations(self) -> dict[str, Any]:
        images = [{"id": i, "file_name": str(i), "width": 100, "height": 100} for i in (1, 2)]
        boxes = [(1, 1, 0, 0), (1, 1, 20, 0), (1, 1, 40, 1), (2, 2, 0, 0)]  # x = y, right and bottom are x + 9
        annotations = [
            {"id": n, "image_id": i, "category_id": c, "bbox": [x, x, 9, 9], "area": 81, "iscrowd": difficult}
            for n, (i, c, x, difficult) in enumerate(boxes, 1)
        ]
        categories = [{"id": i, "name": name} for i, name in zip(self.category_ids, self.classes, strict=True)]
        return {"images": images, "annotations": annotations, "categories": categories}


def measured(**options: Any) -> dict[str, float]:
    metric = VOCMetric(backend="pycocotools", **options)
    metric.bind(Data())
    # Of a: right; the same object again: wrong; the difficult one: does not count; right. Of c: there is no object.
    boxes = [[0, 0, 9, 9], [0, 0, 9, 9], [40, 40, 49, 49], [20, 20, 29, 29], [70, 70, 79, 79]]
    found = {"boxes": boxes, "scores": [0.9, 0.8, 0.7, 0.6, 0.5], "labels": [0, 0, 0, 0, 2]}
    # Of b, in the other picture: 50 of 100 pixels, IoU 0.5 where a box ends with its last pixel.
    half = {"boxes": [[0, 0, 9, 4]], "scores": [0.9], "labels": [1]}
    metric.update([found, half], {"img_id": [1, 2]})
    values = metric.compute()
    assert "Pascal VOC mAP@" in metric.format(values) and "Average Precision" in metric.format(values)
    return values


def test_area() -> None:
    # Precision 1 up to recall 0.5, then 2 of 3: 0.5 + 1 / 3. Class b: 1. Class c has no part in the mean.
    values = measured(eval_mode="area")
    assert values["mAP@50"] == values["mAP"] == pytest.approx((5 / 6 + 1) / 2)


def test_eleven_points() -> None:
    # Recalls 0, 0.1, ..., 0.5 are reached with precision 1, the five above with 2 / 3.
    assert measured()["mAP"] == pytest.approx(((6 + 10 / 3) / 11 + 1) / 2)


def test_several_thresholds() -> None:
    values = measured(eval_mode="area", iou_thrs=[0.5, 0.75])
    assert values["mAP@75"] == pytest.approx(5 / 12) and values["mAP"] == pytest.approx((11 / 12 + 5 / 12) / 2)


def test_the_curve() -> None:
    recall, precision = np.array([0.25, 0.25, 0.5]), np.array([1.0, 0.5, 2 / 3])
    assert average_precision(recall, precision, "area") == pytest.approx(0.25 + 0.25 * 2 / 3)
    assert average_precision(recall, precision, "11points") == pytest.approx((3 + 3 * 2 / 3) / 11)
    nothing = np.zeros(0)
    assert average_precision(nothing, nothing, "area") == average_precision(nothing, nothing, "11points") == 0


def test_without_detections() -> None:
    metric = made({"backend": "pycocotools", "iou_thrs": 0.5}, "VOCMetric")
    metric.bind(Data())
    assert metric.compute()["mAP"] == 0


def test_what_is_refused() -> None:
    for options, words in (
        ({"metric": "recall"}, "only 'mAP' is measured"),
        ({"eval_mode": "voc07"}, "allowed are area, 11points"),
        ({"iou_thrs": []}, "one number above 0"),
        ({"scale_ranges": [(0, 32)]}, "leave it out"),
    ):
        with pytest.raises(ValueError, match=words):
            VOCMetric(**options)  # type: ignore[arg-type]
