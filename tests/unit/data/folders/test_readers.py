"""Pascal VOC, LabelMe, COCO in other tools' layouts, folders of one class; and which reader a folder gets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hatdet.data.folders.open import format_at, read_dataset
from hatdet.utils.errors import UserError
from tests.helpers.folders import voc_xml, write_picture, write_voc, write_yolo


# --------------------------------------------------------------------------------------------- Pascal VOC
def test_voc_counts_pixels_from_1_and_includes_the_last(tmp_path: Path) -> None:
    dataset = read_dataset(write_voc(tmp_path))
    assert dataset.format == "Pascal VOC" and dataset.report.counts == {}
    found = [(p.split, p.name, p.width, p.height, [(b.label, b.bbox) for b in p.boxes]) for p in dataset.pictures]
    assert found == [
        ("train", "a.jpg", 64, 48, [(0, (0, 1, 10, 20))]),
        ("train", "b.jpg", 64, 48, [(1, (0, 1, 10, 20))]),
        ("val", "c.jpg", 64, 48, [(1, (0, 1, 10, 20))]),
    ]
    assert [(one.id, one.name) for one in dataset.classes] == [(1, "cat"), (2, "dog")]


def test_a_corner_of_0_says_that_a_set_counts_from_0(tmp_path: Path) -> None:
    root = write_voc(tmp_path)
    (root / "Annotations" / "b.xml").write_text(voc_xml([("dog", 0, 5, 64, 48)], "b.jpg"))
    dataset = read_dataset(root)
    assert [box.bbox for picture in dataset.pictures for box in picture.boxes] == [
        (1, 2, 9, 19), (0, 5, 64, 43), (1, 2, 9, 19),
    ]  # fmt: skip
    assert list(dataset.report.counts) == ["corners count from 0 here (VOC's count from 1), taken as they are"]


def test_what_is_wrong_in_a_voc_folder_is_counted(tmp_path: Path) -> None:
    root = write_voc(tmp_path)
    annotations = root / "Annotations"
    no_corner = "<object><name>cat</name><bndbox><xmin>1</xmin></bndbox></object>"
    text = voc_xml([("cat", 9, 9, 3, 20), ("dog", 5, 5, 6, 6)], "a.jpg").replace("<object>", no_corner + "<object>", 1)
    (annotations / "a.xml").write_text(text)
    (annotations / "b.xml").write_text("<annotation><filename>b.jpg</filename></annotation>\r\n")
    (annotations / "d.xml").write_text(voc_xml([]))
    (annotations / "e.xml").write_text("<annotation><object>")
    (root / "ImageSets" / "Main" / "train.txt").write_text("a\nb\ne\nghost\n")
    (root / "JPEGImages" / "c.jpg").unlink()
    dataset = read_dataset(root)
    assert dataset.report.counts == {
        "annotation that no list of ImageSets/Main names, left out": 1,
        "object without a name or four corners, left out": 1,
        "picture size missing or wrong, read from the picture instead": 1,
        "annotation that cannot be read, left out": 1,
        "annotation whose picture is not there": 1,
        "box without positive width and height, left out": 1,
        "picture of ImageSets/Main without an annotation, left out": 1,
    }
    a, b, c = dataset.pictures
    assert [box.bbox for box in a.boxes] == [(4, 4, 2, 2)]
    assert (b.width, b.height, b.boxes) == (64, 48, [])
    assert c.error == "does not exist"


def test_an_encoding_that_is_none_costs_one_annotation(tmp_path: Path) -> None:
    root = write_voc(tmp_path)
    file = root / "Annotations" / "a.xml"
    file.write_text('<?xml version="1.0" encoding="nobodys"?>' + file.read_text())
    dataset = read_dataset(root)
    assert [picture.name for picture in dataset.pictures] == ["b.jpg", "c.jpg"]
    assert dataset.report.counts["annotation that cannot be read, left out"] == 1


def test_lists_of_numbered_pictures_are_no_labels(tmp_path: Path) -> None:
    """VOC2007's pictures are called by numbers, and ImageSets/Main lists a column of these."""
    lists = write_voc(tmp_path) / "ImageSets" / "Main"
    for number, name in enumerate("abc"):
        (tmp_path / "JPEGImages" / f"{name}.jpg").rename(tmp_path / "JPEGImages" / f"{number:06}.jpg")
        (tmp_path / "Annotations" / f"{name}.xml").rename(tmp_path / "Annotations" / f"{number:06}.xml")
    (lists / "train.txt").write_text("000000\n000001\n000003\n000004\n000005\n000006\n")
    (lists / "val.txt").write_text("000002\n")
    (lists / "cat_train.txt").write_text("000000  1\n000001 -1\n000003 -1\n")
    dataset = read_dataset(tmp_path)
    assert dataset.format == "Pascal VOC" and len(dataset.pictures) == 3


def test_difficult_objects_are_crowds(tmp_path: Path) -> None:
    root = write_voc(tmp_path)
    file = root / "Annotations" / "a.xml"
    file.write_text(file.read_text().replace("<difficult>0", "<difficult>1"))
    assert read_dataset(root).pictures[0].boxes[0].iscrowd


def test_the_annotations_beside_the_pictures_in_folders_of_splits(tmp_path: Path) -> None:
    """Roboflow's export; the file name of an annotation may be of another machine."""
    for number, split in enumerate(("train", "valid")):
        write_picture(tmp_path / split / "é x.jpg", number)
        name = r"C:\data\é x.jpg" if number else "é x.jpg"
        (tmp_path / split / "é x.xml").write_text(voc_xml([("cat", 1, 1, 5, 5)], name), encoding="utf-8")
    write_picture(tmp_path / "train" / "unlabelled.jpg", 9)
    dataset = read_dataset(tmp_path)
    assert [(picture.split, picture.name, picture.error) for picture in dataset.pictures] == [
        ("train", "é x.jpg", ""), ("val", "é x.jpg", ""),
    ]  # fmt: skip
    assert dataset.report.counts == {"picture without an annotation, left out": 1}


# ------------------------------------------------------------------------------------------------ LabelMe
def labelme(root: Path, name: str, shapes: list[Any], **more: Any) -> None:
    content = {"shapes": shapes, "imagePath": f"{name}.png", "imageHeight": 48, "imageWidth": 64, **more}
    (root / f"{name}.json").write_text(json.dumps(content))


def shape(kind: str, points: list[Any], label: Any = "cat") -> dict[str, Any]:
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, "flags": {}}


def test_labelme_shapes(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", 1)
    write_picture(tmp_path / "unlabelled.png", 2)
    labelme(tmp_path, "a", [
        shape("rectangle", [[30, 20], [10, 5]]),
        shape("polygon", [[1, 1], [5, 2], [3, 9]], "dog"),
        shape("circle", [[20, 20], [23, 24]]),
        shape("point", [[1, 1]]),
        shape("rectangle", [[1, 1]]),
        shape("rectangle", [[1, 1], [1, 8]]),
        shape("rectangle", [[1, 1], [8, 8]], None),
        "no shape",
    ])  # fmt: skip
    labelme(tmp_path, "b", [])
    dataset = read_dataset(tmp_path)
    assert dataset.format == "LabelMe" and [one.name for one in dataset.classes] == ["cat", "dog"]
    assert [(box.label, box.bbox) for box in dataset.pictures[0].boxes] == [
        (0, (10, 5, 20, 15)), (1, (1, 1, 4, 8)), (0, (15, 15, 10, 10)),
    ]  # fmt: skip
    assert dataset.report.counts == {
        "shape without an extent (a point, a line), left out": 2,
        "shape without a label or without its points, left out": 2,
        "annotation whose picture is not there": 1,
        "box without positive width and height, left out": 1,
        "picture without an annotation, left out": 1,
    }


def test_labelme_shapes_of_other_kinds_and_numbers(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", 1)
    labelme(tmp_path, "a", [
        shape(["rectangle"], [[30, 20], [10, 5]]),  # type: ignore[arg-type]
        shape("rectangle", [[1, 1], [10**400, 5]]),
        shape("rectangle", [[1, 1], [True, 5]]),
    ])  # fmt: skip
    assert read_dataset(tmp_path).report.counts == {
        "shape without an extent (a point, a line), left out": 1,
        "shape without a label or without its points, left out": 2,
    }


def test_labelme_with_pictures_elsewhere_and_splits(tmp_path: Path) -> None:
    write_picture(tmp_path / "val" / "images" / "a.png", 1)
    (tmp_path / "val" / "ann").mkdir()
    labelme(tmp_path / "val" / "ann", "a", [shape("rectangle", [[0, 0], [8, 8]])], imagePath="..\\images\\a.png")
    (picture,) = read_dataset(tmp_path).pictures
    assert (picture.split, picture.name, picture.error, picture.width) == ("val", "images/a.png", "", 64)


def test_a_labelme_folder_named_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_picture(tmp_path / "set" / "images" / "a.png", 1)
    labelme(tmp_path / "set", "a", [shape("rectangle", [[0, 0], [8, 8]])], imagePath="x/../images/a.png")
    monkeypatch.chdir(tmp_path)
    dataset = read_dataset(Path("set"))
    assert [str(picture.path) for picture in dataset.pictures] == ["set/images/a.png"]
    assert dataset.report.counts == {}


# --------------------------------------------------------------------------------------------------- COCO
def coco(file: Path, names: list[str], categories: list[str], box: list[float] | None = None) -> None:
    content = {
        "images": [{"id": i, "file_name": name, "width": 64, "height": 48} for i, name in enumerate(names)],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 5, "bbox": box or [1, 2, 3, 4]} for i in range(len(names))
        ],
        "categories": [{"id": 5 + i, "name": name} for i, name in enumerate(categories)],
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))


def test_splits_that_share_a_folder(tmp_path: Path) -> None:
    for number, name in enumerate(("a.png", "b.png", "c.png")):
        write_picture(tmp_path / "images" / name, number)
    coco(tmp_path / "annotations" / "instances_train.json", ["a.png"], ["cat"])
    coco(tmp_path / "annotations" / "instances_val.json", ["b.png"], ["cat"])
    dataset = read_dataset(tmp_path)
    assert [str(picture) for picture in dataset.pictures] == ["train/a.png", "val/b.png"]
    assert dataset.report.counts == {"picture that its json does not list, left out": 1}


def test_roboflow_and_classes_by_name(tmp_path: Path) -> None:
    """The splits list their classes in different orders."""
    for split, names in (("train", ["cat", "dog"]), ("valid", ["dog", "bird"]), ("test", ["cat"])):
        coco(tmp_path / split / "_annotations.coco.json", ["a.png"], names)
        write_picture(tmp_path / split / "a.png", 1)
    dataset = read_dataset(tmp_path)
    assert [(one.id, one.name) for one in dataset.classes] == [(5, "cat"), (6, "dog"), (7, "bird")]
    assert [(picture.split, picture.name, picture.boxes[0].label) for picture in dataset.pictures] == [
        ("train", "a.png", 0), ("val", "a.png", 1), ("test", "a.png", 0),
    ]  # fmt: skip


@pytest.mark.parametrize("folder", ["images", "images/default", "default", "pics/images", ""])
def test_cvat_export_with_pictures_in_any_usual_place(tmp_path: Path, folder: str) -> None:
    root = tmp_path / "pics" if folder.startswith("pics") else tmp_path
    coco(root / "annotations" / "instances_default.json", ["sub/a.png"], ["cat"])
    write_picture(tmp_path / folder / "sub" / "a.png", 1)
    (picture,) = read_dataset(root).pictures
    assert (picture.split, picture.error, picture.path) == ("", "", tmp_path / folder / "sub" / "a.png")


def test_a_json_by_itself_and_what_it_does_not_list(tmp_path: Path) -> None:
    coco(tmp_path / "annotations" / "instances_val.json", ["a.png", "gone.png", "a.png"], ["cat"])
    for name in ("a", "b"):
        write_picture(tmp_path / "val" / f"{name}.png", 1)
    dataset = read_dataset(tmp_path / "annotations" / "instances_val.json")
    assert [(picture.split, picture.error) for picture in dataset.pictures] == [
        ("val", ""), ("val", "does not exist"), ("val", ""),
    ]  # fmt: skip
    assert dataset.report.counts == {
        "picture left out": 1,
        "picture listed more than once": 1,
        "picture that its json does not list, left out": 1,
    } | {key: 3 for key in dataset.report.counts if "annotation" in key}


# ------------------------------------------------------------------------------------------ class folders
def test_folders_of_one_class(tmp_path: Path) -> None:
    for path in ("train/cat/1.png", "train/dog/sub/2.png", "valid/dog/3.png"):
        write_picture(tmp_path / path, len(path))
    dataset = read_dataset(tmp_path, "classes")
    assert [(p.split, p.name, p.boxes[0].label, p.boxes[0].bbox) for p in dataset.pictures] == [
        ("train", "cat/1.png", 0, (0, 0, 64, 48)),
        ("train", "dog/sub/2.png", 1, (0, 0, 64, 48)),
        ("val", "dog/3.png", 1, (0, 0, 64, 48)),
    ]
    assert format_at(tmp_path) is None, "only on request: nothing says that the whole picture is the object"


# ------------------------------------------------------------------------------------------ which of them
def test_what_is_found(tmp_path: Path) -> None:
    assert format_at(write_yolo(tmp_path / "yolo")) == "yolo"
    assert format_at(tmp_path / "yolo" / "data.yaml") == "yolo"
    assert format_at(write_voc(tmp_path / "voc")) == "voc"
    coco(tmp_path / "coco" / "x.json", ["a.png"], ["cat"])
    assert format_at(tmp_path / "coco") == "coco" == format_at(tmp_path / "coco" / "x.json")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: None, "is empty"),
        (lambda root: write_picture(root / "a.png", 1), r"no annotations; name a data set .*--format coco, yolo"),
        (lambda root: (root / "a.csv").write_text("ImageID,x\n"), "CSV format"),
        (lambda root: root.rmdir(), "does not exist; name the folder"),
    ],
)
def test_what_is_no_data_set_is_refused(tmp_path: Path, make: Any, message: str) -> None:
    (tmp_path / "x").mkdir()
    make(tmp_path / "x")
    with pytest.raises(UserError, match=message):
        read_dataset(tmp_path / "x")
