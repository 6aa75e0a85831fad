"""Training from YOLO, Pascal VOC and LabelMe folders as they are."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from hatdet.data.datasets.coco import CocoDataset
from hatdet.data.datasets.folders import folder_place
from hatdet.data.folders.convert import convert
from hatdet.data.folders.open import read_dataset
from hatdet.utils.errors import UserError
from tests.helpers.folders import COCO_DEFAULTS, write_picture, write_voc, write_yolo


def dataset(root: Path, split: str = "train", **options: Any) -> CocoDataset:
    return CocoDataset(**{"data_root": root, "transforms": [], **COCO_DEFAULTS[split], **options})


@pytest.mark.parametrize("named", ["folder", "data.yaml"])
def test_a_yolo_folder(tmp_path: Path, named: str, caplog: pytest.LogCaptureFixture) -> None:
    root = write_yolo(tmp_path / "set")
    given = root if named == "folder" else root / "data.yaml"
    with caplog.at_level(logging.INFO, "hatdet"):
        train, val = dataset(given), dataset(given, "val", test_mode=True)
    assert caplog.messages == [f"the split {split!r} is read from {given} (YOLO)" for split in ("train", "val")]
    assert (len(train), len(val), train.classes, val.classes) == (4, 2, ("cat", "dog"), ("cat", "dog"))
    item = train[3]
    assert item["gt_boxes"].tolist() == [[11, 6, 27, 18]] and item["gt_labels"].tolist() == [1]
    assert item["img"].shape == (3, 48, 64)
    assert val[0]["file_name"] == "images/val/4.png"
    assert train.class_source == str(given)


def test_a_voc_folder(tmp_path: Path) -> None:
    train = dataset(write_voc(tmp_path / "set"))
    assert [train[i]["gt_boxes"].tolist() for i in range(2)] == [[[0, 1, 10, 21]]] * 2
    assert train.category_ids == (1, 2)


def test_every_format_gives_the_same_truth(tmp_path: Path) -> None:
    source = read_dataset(write_yolo(tmp_path / "set"))
    truths = []
    for format in ("coco", "yolo", "voc"):
        convert(source, tmp_path / format, format)
        truth = dataset(tmp_path / format).coco_annotations()
        names = {image["id"]: Path(image["file_name"]).name for image in truth["images"]}
        truths.append([(names[one["image_id"]], one["category_id"], one["bbox"]) for one in truth["annotations"]])
    assert truths[0] == truths[1] == truths[2] and len(truths[0]) == 4


def test_it_is_read_again_only_where_something_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import hatdet.data.datasets.folders as module

    calls = []

    def counted(*args: Any) -> Any:
        calls.append(args)
        return read_dataset(*args)

    monkeypatch.setattr(module, "read_dataset", counted)
    root = write_yolo(tmp_path / "set")
    assert [len(dataset(root)), len(dataset(root, "val")), len(dataset(root)), len(calls)] == [4, 2, 4, 1]
    labels = root / "labels" / "train" / "0.txt"
    labels.write_text("0 0.5 0.5 0.5 0.5\n1 0.5 0.5 0.25 0.25\n")
    os.utime(labels, ns=(1, 1))
    assert len(dataset(root)[0]["gt_boxes"]) == 2 and len(calls) == 2
    write_picture(root / "images" / "train" / "new.png", 77)
    (root / "labels" / "train" / "new.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    assert len(dataset(root)) == 5 and len(calls) == 3


@pytest.mark.parametrize("named", ["set", "set/data.yaml", "labelme"])
def test_a_folder_named_from_here_is_read_once_too(
    tmp_path: Path, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_yolo(tmp_path / "set")
    for split in ("train", "val"):
        write_picture(tmp_path / "labelme" / split / "a.png", 1)
        shapes = [{"label": "cat", "shape_type": "rectangle", "points": [[1, 1], [9, 9]]}]
        (tmp_path / "labelme" / split / "a.json").write_text(json.dumps({"imagePath": "a.png", "shapes": shapes}))
    monkeypatch.chdir(tmp_path)
    first = folder_place(Path(named), "annotations/instances_train2017.json")
    monkeypatch.setattr("hatdet.data.datasets.folders.read_dataset", None)
    assert first is not None and first == folder_place(Path(named), "annotations/instances_train2017.json")
    assert first[0].img_dir == tmp_path / named.removesuffix("/data.yaml")


def test_links_to_folders_are_followed(tmp_path: Path) -> None:
    """Labels behind a link: a change there is noticed; links back are no way round."""
    root = write_yolo(tmp_path / "set")
    (root / "labels").rename(tmp_path / "labels")
    (root / "labels").symlink_to(tmp_path / "labels")
    (root / "again").symlink_to(root)
    (root / "images" / "train" / "up").symlink_to(root / "images")
    assert dataset(root)[0]["gt_labels"].tolist() == [0] and len(dataset(root)) == 4
    (tmp_path / "labels" / "train" / "0.txt").write_text("1 0.5 0.5 0.5 0.5\n")
    assert dataset(root)[0]["gt_labels"].tolist() == [1]


def test_pictures_that_lie_elsewhere(tmp_path: Path) -> None:
    """data.yaml in one folder, pictures in two others; a change there is noticed."""
    root = write_yolo(tmp_path / "pictures")
    config = tmp_path / "set" / "data.yaml"
    config.parent.mkdir()
    config.write_text(f"path: {root}\ntrain: images/train\nval: images/val\nnames: [cat, dog]\n")
    train = dataset(config.parent)
    assert (len(train), train[0]["gt_labels"].tolist()) == (4, [0])
    (root / "labels" / "train" / "0.txt").write_text("1 0.5 0.5 0.5 0.5\n")
    assert dataset(config.parent)[0]["gt_labels"].tolist() == [1]
    assert not list(root.rglob(".hatdet_cache"))


def test_what_was_odd_is_said_and_damage_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = write_yolo(tmp_path / "set")
    (root / "images" / "train" / "0.png").write_bytes(b"")
    (root / "labels" / "train" / "1.txt").write_text("9 0.5 0.5 0.5 0.5\n")
    with caplog.at_level(logging.WARNING, "hatdet"):
        train = dataset(root, test_mode=True)
    assert len(train) == 3
    text = "\n".join(caplog.messages)
    assert "0.png: the file is empty" in text
    assert "class number without a name, box left out (1): labels/train/1.txt:1" in text


def test_a_split_that_is_not_there(tmp_path: Path) -> None:
    write_picture(tmp_path / "set" / "a.png", 1)
    (tmp_path / "set" / "a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    with pytest.raises(UserError, match=r"no pictures of the split 'train' \(pictures: no split 1\); divide it with"):
        dataset(tmp_path / "set")


def test_other_names_and_coco_folders_are_left_to_the_coco_reader(tmp_path: Path) -> None:
    root = write_yolo(tmp_path / "set")
    with pytest.raises(UserError, match=r"mine\.json does not exist"):
        dataset(root, ann_file="mine.json")
    convert(read_dataset(root), tmp_path / "coco", "coco")
    assert dataset(tmp_path / "coco").ann_file == tmp_path / "coco" / "annotations" / "instances_train.json"
