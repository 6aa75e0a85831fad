"""A json that the data sets take with a warning is no traceback of the metric that reads it apart."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from hatdet.metrics.coco import COCODetectionMetric
from hatdet.metrics.records import is_crowd, read_coco
from hatdet.utils.errors import UserError

BOX = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0}


def write(path: Path, **changes: Any) -> Path:
    image = {"id": 1, "file_name": "a.jpg", "width": 64, "height": 48}
    content = {"images": [image], "annotations": [BOX], "categories": [{"id": 1, "name": "a"}], **changes}
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    "bad",
    [
        {},
        {"image_id": 1, "category_id": 1},
        {"image_id": 1, "category_id": 1, "bbox": None},
        {"image_id": 1, "category_id": 1, "bbox": [1, 2]},
        {"image_id": 1, "category_id": 1, "bbox": [1, 2, "x", 4]},
        {"image_id": 1, "category_id": 1, "bbox": [1, 2, float("nan"), 4]},
        {"image_id": 1, "category_id": None, "bbox": [1, 2, 3, 4]},
        {"category_id": 1, "bbox": [1, 2, 3, 4]},
        {"image_id": "1", "category_id": 1, "bbox": [1, 2, 3, 4]},
        7,
        None,
    ],
)
def test_annotations_that_no_data_set_takes_are_not_scored(
    bad: object, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    metric = COCODetectionMetric(ann_file=write(tmp_path / "val.json", annotations=[BOX, bad]))
    with caplog.at_level(logging.WARNING, logger="hatdet"):
        metric.update([{"boxes": [[1, 2, 4, 6]], "scores": [0.9], "labels": [0]}], {"img_id": [1]})
        assert metric.compute()["AP"] == pytest.approx(1)
    assert caplog.messages == [f"{tmp_path / 'val.json'}: 1 annotations without usable numbers are not scored"]


def test_numbers_as_the_data_sets_read_them(tmp_path: Path) -> None:
    image = {"id": 1.0, "file_name": "a.jpg", "width": None, "height": "48"}
    box = {**BOX, "category_id": "2", "iscrowd": "0"}
    path = write(tmp_path / "val.json", images=[image], annotations=[box], categories=[{"id": "2"}, {"id": 3}])
    content = read_coco(path)
    assert content["categories"] == [{"id": 2, "name": "category_2"}, {"id": 3, "name": "category_3"}]
    metric = COCODetectionMetric(ann_file=path)
    metric.update([{"boxes": [[1, 2, 4, 6]], "scores": [0.9], "labels": [0]}], {"img_id": [1]})
    assert metric.compute()["AP/category_2"] == pytest.approx(1)  # "0" was taken for a crowd


@pytest.mark.parametrize(
    ("flags", "crowd"),
    [
        ({}, False),
        ({"iscrowd": 0}, False),
        ({"iscrowd": "0"}, False),
        ({"iscrowd": 2}, False),
        ({"iscrowd": 1}, True),
        ({"iscrowd": "1"}, True),
        ({"ignore": True}, True),
        ({"iscrowd": 0, "ignore": "true"}, True),
    ],
)
def test_crowds_are_those_of_the_data_sets(flags: dict[str, object], crowd: bool) -> None:
    assert is_crowd(flags) is crowd


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"images": [{"id": "x"}]}, "an id in 'images' is no whole number"),
        ({"images": [{"id": "1"}]}, "an id in 'images' is no whole number"),  # the data sets number such images anew
        ({"images": [{}]}, "leave ann_file out of the metric"),
        ({"categories": [None]}, "an id in 'categories' is no whole number"),
        ({"images": {}}, "it needs images, annotations and categories"),
    ],
)
def test_files_to_score_nothing_by(changes: dict[str, Any], text: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=text):
        read_coco(write(tmp_path / "val.json", **changes))


def test_a_file_that_is_nested_too_deeply(tmp_path: Path) -> None:
    (tmp_path / "val.json").write_text("[" * 100_000)
    with pytest.raises(UserError, match="is not valid JSON"):
        read_coco(tmp_path / "val.json")
