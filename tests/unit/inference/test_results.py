"""What a detector gives: plain values, and the forms that other programs read."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from hatdet.inference.results import Result, class_labels
from hatdet.utils.errors import UserError


def result(**changes: object) -> Result:
    found = Result(
        boxes=np.array([[10, 20, 30, 60], [0, 0, 50, 100], [5, 5, 6, 7]], np.float32),
        scores=np.array([0.9, 0.5, 0.25], np.float32),
        labels=np.array([1, 0, 1]),
        names=("cat", "dog"),
        size=(100, 50),
    )
    return dataclasses.replace(found, **changes)  # type: ignore[arg-type]


def test_it_reads_as_rows_and_in_one_line() -> None:
    found = result(path=Path("a/street.jpg"))
    assert len(found) == 3
    box, score, label, name = next(iter(found))
    assert (box, label, name) == ((10.0, 20.0, 30.0, 60.0), 1, "dog") and score == pytest.approx(0.9)
    assert repr(found) == "Result(street.jpg, 100x50: 2 dog 0.90 0.25, 1 cat 0.50)"
    assert repr(result(time=0.4, number=10, path=Path("v.mp4"))).startswith("Result(v.mp4#10, 100x50: ")
    assert repr(found.keep(0.95)) == "Result(street.jpg, 100x50: nothing found)"
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.number = 3  # type: ignore[misc]


def test_keeping_by_score_and_class() -> None:
    assert result().keep(0.5).scores.tolist() == [np.float32(0.9), 0.5], "a score on the threshold stays"
    assert result().keep(classes=["dog"]).labels.tolist() == [1, 1]
    assert result().keep(0.5, classes=[1]).boxes.tolist() == [[10, 20, 30, 60]]
    assert class_labels("dog", ("cat", "dog")) == {1} and class_labels([0, "dog"], ("cat", "dog")) == {0, 1}
    with pytest.raises(UserError, match=r"classes: the model has no 'dgo'; did you mean 'dog'\?; it has cat, dog"):
        class_labels(["dgo"], ("cat", "dog"))
    with pytest.raises(UserError, match="the model has no 2; it has cat, dog: name some of them"):
        class_labels([2], ("cat", "dog"))


def test_coco_and_yolo() -> None:
    first, *_ = result().to_coco(7, category_ids=(3, 9))
    assert first == {"image_id": 7, "category_id": 9, "bbox": [10, 20, 20, 40], "score": float(np.float32(0.9))}
    assert [row["category_id"] for row in result().to_coco()] == [2, 1, 2]
    first, second, _ = result().to_yolo().splitlines()
    assert first == "1 0.400000 0.400000 0.400000 0.400000 0.900000"
    assert second == "0 0.500000 0.500000 1.000000 1.000000 0.500000"


def test_drawing_takes_the_picture_or_its_file(tmp_path: Path) -> None:
    blank = np.zeros((100, 50, 3), np.uint8)
    drawn = result(image=blank).draw()
    assert drawn.shape == blank.shape and drawn.any() and not blank.any(), "the picture itself stays as it is"
    file = tmp_path / "blank.png"
    cv2.imwrite(str(file), blank)
    assert np.array_equal(result(path=file).draw(), drawn) and np.array_equal(result().draw(blank), drawn)
    assert np.array_equal(cv2.imread(str(result(path=file).save(tmp_path / "new" / "drawn.png"))), drawn)
    with pytest.raises(UserError, match=r"save\('drawn\.doc'\) is no name of a picture; end it with one of \.jpg"):
        result(path=file).save("drawn.doc")
    with pytest.raises(UserError, match="this result keeps no picture: give draw"):
        result().draw()


def test_points_are_the_middles_and_are_drawn_where_they_are_what_was_found() -> None:
    blank = np.zeros((100, 50, 3), np.uint8)
    found = result(image=blank, of_points=True).keep(0.9)
    assert found.points.tolist() == [[20.0, 40.0]] and found.points.dtype == np.float32 and found.of_points
    middle = (slice(39, 42), slice(19, 22))
    assert found.draw()[middle].any(axis=2).all() and not result(image=blank).keep(0.9).draw()[middle].any()


def test_supervision() -> None:
    supervision = pytest.importorskip("supervision", reason="supervision is not installed")
    found = result().to_supervision()
    assert isinstance(found, supervision.Detections) and np.array_equal(found.xyxy, result().boxes)
    assert found.class_id.tolist() == [1, 0, 1] and found.data["class_name"].tolist() == ["dog", "cat", "dog"]
    assert len(result().keep(1.0).to_supervision()) == 0


def test_supervision_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(UserError, match=r"needs supervision .*install it with: pip install 'hatdet\[track\]'"):
        result().to_supervision()
