"""The strict COCO reader."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hatdet.data.coco import read_coco
from hatdet.data.coco_boxes import clip_bbox
from hatdet.data.coco_entries import Annotation
from hatdet.data.report import Report
from hatdet.utils.errors import UserError


def coco(**changes: Any) -> dict[str, Any]:
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 20, "height": 10}],
        "annotations": [{"id": 5, "image_id": 1, "category_id": 2, "bbox": [1, 2, 13, 4]}],
        "categories": [{"id": 2, "name": "cat"}, {"id": 1, "name": "dog"}],
    }
    return {**content, **changes}


def read(tmp_path: Path, content: Any) -> Any:
    file = tmp_path / "x.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return read_coco(file)


def test_labels_count_categories_in_ascending_id(tmp_path: Path) -> None:
    file = read(tmp_path, coco())
    assert [(c.id, c.name) for c in file.categories] == [(1, "dog"), (2, "cat")]
    [annotation] = file.images[0].annotations
    assert annotation.label == 1
    assert annotation.bbox == (1, 2, 13, 4)
    assert annotation.area == 52.0 and not annotation.iscrowd  # area and iscrowd were not given
    assert not list(file.report.lines())


def test_roboflow_dummy_category_is_left_out_and_only_that(tmp_path: Path) -> None:
    dummy = {"id": 0, "name": "cat", "supercategory": "none"}  # even of the same name as its child
    named = [dummy, {"id": 1, "name": "cat", "supercategory": "cat"}, {"id": 2, "name": "dog", "supercategory": "cat"}]
    file = read(tmp_path, coco(categories=named))
    assert [c.name for c in file.categories] == ["cat", "dog"]
    # used: it is a class
    used = [{"id": 5, "image_id": 1, "category_id": 0, "bbox": [1, 2, 3, 4]}]
    named[0] = {**dummy, "name": "animal"}
    file = read(tmp_path, coco(categories=named, annotations=used))
    assert [c.name for c in file.categories] == ["animal", "cat", "dog"]
    # all "none": the word means nothing, all stay, so that train and val agree on the labels
    none = [{"id": i, "name": str(i), "supercategory": "none"} for i in (1, 2, 3)]
    assert len(read(tmp_path, coco(categories=none)).categories) == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "found a list"),
        ('{"images": [], "images": []}', "'images' appears twice"),
        ("{", "line 1, column 2"),
        ("[" * 100_000, "nested too deeply"),
        (coco(images={}), "'images' must be a list, found an object"),
        (coco(categories=[]), "'categories' is empty"),
        (coco(categories=[{"id": True, "name": "x"}]), "categories[0]: 'id' must be a whole number up to 2^53"),
        (coco(images=[{"id": 1.5, "file_name": "a"}]), "images[0]: 'id' must be"),
        (
            coco(images=[{"id": 1, "file_name": "a"}, {"id": 1.0, "file_name": "b"}]),
            "two images have the id 1: 'a' and 'b'",
        ),
        (coco(categories=[{"id": 1, "name": "x"}, {"id": 2, "name": "x"}]), "1 and 2 have the same name 'x'"),
        (
            coco(annotations=[{"id": 1, "image_id": "1", "category_id": 2, "bbox": [1, 1, 2, 2]}]),
            "the first 'image_id' is '1', the first image 'id' is 1",
        ),
        (
            coco(annotations=[{"id": 1, "image_id": 1, "category_id": 2, "bbox": [0.1, 0.1, 0.5, 0.4]}]),
            "look normalised",
        ),
    ],
)
def test_files_that_are_refused(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(UserError) as error:
        read(tmp_path, content)
    assert message in str(error.value) and "x.json" in str(error.value)


@pytest.mark.parametrize("bbox", [None, "1,2,3,4", [1, 2, 3], [1, 2, 3, True], [1, 2, 0, 4], [1, 2, 3, 1e300]])
def test_a_bad_box_is_skipped_and_named(tmp_path: Path, bbox: Any) -> None:
    good = coco()["annotations"][0]
    file = read(tmp_path, coco(annotations=[good, {"id": 77, "image_id": 1, "category_id": 2, "bbox": bbox}]))
    assert len(file.images[0].annotations) == 1
    [line] = file.report.lines()
    assert "annotation id 77" in line and "bbox" in line and "skipped (1)" in line


def box(*numbers: float) -> Annotation:
    return Annotation("annotation id 1", numbers, 0, 1.0, False)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("bbox", "expected", "warned"),
    [
        ((1, 2, 3, 4), (1, 2, 3, 4), False),
        ((-0.4, 0, 20.8, 10), (-0.4, 0, 20.8, 10), False),  # under a pixel: as it is
        ((-5, 2, 10, 20), (0, 2, 5, 8), True),
        ((15, 5, 10, 10), (15, 5, 5, 5), True),
        ((20, 0, 5, 5), None, True),
    ],
)
def test_clip_bbox_in_an_image_of_20_by_10(bbox: Any, expected: Any, warned: bool) -> None:
    report = Report("x.json")
    assert clip_bbox(box(*bbox), 20, 10, report) == expected
    assert bool(report.counts) == warned


def test_report_counts_and_shows_a_few() -> None:
    report = Report("x.json", max_examples=2)
    for i in range(5):
        report.add("odd", f"id {i}")
    assert list(report.lines()) == ["x.json: odd (5): id 0; id 1; and 3 more"]


def test_a_name_of_thousands_of_letters_is_shown_by_its_ends() -> None:
    report = Report("x.json")
    report.add("odd", "a" * 300 + "x" * 5000 + "b" * 300)
    assert list(report.lines()) == [f"x.json: odd (1): {'a' * 300} ... {'b' * 300}"]


def test_a_class_without_a_box_is_a_class(tmp_path: Path) -> None:
    """Of supercategory "none" and not used in this split; earlier versions left it out and moved the labels."""
    categories = [
        {"id": 1, "name": "dog", "supercategory": "none"},
        {"id": 2, "name": "cat", "supercategory": "animal"},
        {"id": 3, "name": "cow", "supercategory": "none"},
    ]
    file = read(tmp_path, coco(categories=categories))
    assert [c.name for c in file.categories] == ["dog", "cat", "cow"] and not file.placeholders
    assert file.images[0].annotations[0].label == 1


def test_category_ids_as_strings(tmp_path: Path) -> None:
    categories = [{"id": "2", "name": "cat"}, {"id": "10", "name": "dog"}]
    boxes = [{"id": 5, "image_id": 1, "category_id": "10", "bbox": [1, 2, 3, 4]}]
    file = read(tmp_path, coco(categories=categories, annotations=boxes))
    assert [(c.id, c.name) for c in file.categories] == [(2, "cat"), (10, "dog")]  # by number, not by letter
    assert file.images[0].annotations[0].label == 1
    assert "category 'id' given as a string, converted (2)" in "".join(file.report.lines())


def test_names_that_differ_in_case_only_are_named(tmp_path: Path) -> None:
    file = read(tmp_path, coco(categories=[{"id": 1, "name": "Cat"}, {"id": 2, "name": "cat "}]))
    assert "differ only in case or spaces: are they one? (1): 'Cat' (id 1) and 'cat ' (id 2)" in "".join(
        file.report.lines()
    )


def test_ignore_is_a_crowd(tmp_path: Path) -> None:
    boxes = [
        {"id": 5, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "ignore": 1},
        {"id": 6, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "ignore": 0},
        {"id": 7, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "ignore": 1, "iscrowd": 0},
        {"id": 8, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "ignore": "yes"},
    ]
    file = read(tmp_path, coco(annotations=boxes))
    assert [a.iscrowd for a in file.images[0].annotations] == [True, False, True, False]
    text = "".join(file.report.lines())
    assert "'ignore': 1, taken as a crowd region: not learned, ignored in evaluation (2)" in text
    assert "'ignore' is neither 0 nor 1, taken as 0 (1)" in text


def test_areas_that_cannot_be(tmp_path: Path) -> None:
    """A box of 13 x 4 has 52 pixels; the area decides in which size class an evaluation counts it."""
    rows = [{"id": i, "image_id": 1, "category_id": 1, "bbox": [1, 2, 13, 4]} for i in range(4)]
    for row, area in zip(rows, (30.5, 0, "52", 5200), strict=True):
        row["area"] = area
    file = read(tmp_path, coco(annotations=rows))
    assert [a.area for a in file.images[0].annotations] == [30.5, 52, 52, 5200]
    text = "".join(file.report.lines())
    assert "'area' is no positive number, that of the box is taken (2): annotation id 1: area 0" in text
    assert "'area' is larger than the box: small, medium and large objects follow it (1)" in text


def test_flags_as_strings(tmp_path: Path) -> None:
    box = {"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}
    flags: list[dict[str, Any]] = [{"ignore": "1"}, {"iscrowd": "0"}, {"ignore": "True"}, {"iscrowd": "1"}, {}]
    file = read(tmp_path, coco(annotations=[{**box, "id": i, **flag} for i, flag in enumerate(flags, 1)]))
    assert [a.iscrowd for a in file.images[0].annotations] == [True, False, True, True, False]
    text = "".join(file.report.lines())
    assert "'ignore' given as a string, converted (2)" in text and "'iscrowd' given as a string, converted (2)" in text


def test_a_split_of_crowds_alone_is_a_split_without_objects(tmp_path: Path) -> None:
    """As one without annotations: AP is not measured, but the file is whole."""
    box = {"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}
    file = read(tmp_path, coco(annotations=[{**box, "id": 1, "ignore": 1}, {**box, "id": 2, "iscrowd": 1}]))
    assert [a.iscrowd for a in file.images[0].annotations] == [True, True]
