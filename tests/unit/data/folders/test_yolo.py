"""YOLO's text files: layouts, lines, and everything that real exports get wrong."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from hatdet.data.folders.open import read_dataset
from hatdet.data.folders.readers.yolo import label_file, read_yolo
from hatdet.data.folders.sizes import picture_size
from hatdet.data.image_file import decode
from hatdet.utils.errors import UserError
from tests.helpers.folders import write_picture, write_yolo


def one(root: Path, lines: str | bytes, names: str = "names: [cat, dog]", width: int = 100, height: int = 50):
    """A data set of one picture with these lines."""
    write_picture(root / "images" / "train" / "p.png", 1, width, height)
    (root / "labels" / "train").mkdir(parents=True)
    (root / "labels" / "train" / "p.txt").write_bytes(lines if isinstance(lines, bytes) else lines.encode())
    (root / "data.yaml").write_text(f"train: images/train\nval: images/train\n{names}\n")
    dataset = read_yolo(root)
    return dataset.pictures[0].boxes, dataset


def test_boxes_are_pixels_of_the_picture(tmp_path: Path) -> None:
    boxes, dataset = one(tmp_path, "1 0.5 0.5 0.2 0.4\n")
    assert [(box.bbox, box.label, box.area) for box in boxes] == [((40, 15, 20, 20), 1, 400)]
    assert [(one.id, one.name) for one in dataset.classes] == [(1, "cat"), (2, "dog")]
    assert dict(dataset.report.counts) == {}


def test_the_usual_folder(tmp_path: Path) -> None:
    dataset = read_dataset(write_yolo(tmp_path))
    assert (dataset.format, dataset.splits) == ("YOLO", ["train", "val"])
    assert dataset.summary().endswith("YOLO, 6 pictures (train 4, val 2), 6 boxes, 2 classes (cat, dog)")
    assert [box.bbox for picture in dataset.of("val") for box in picture.boxes] == [(12, 6, 16, 12), (13, 6, 16, 12)]


@pytest.mark.parametrize(
    ("lines", "kind"),
    [
        ("2 0.5 0.5 0.1 0.1", "class number without a name, box left out"),
        ("-1 0.5 0.5 0.1 0.1", "line whose class is not a whole number from 0, left out"),
        ("0.5 0.5 0.5 0.1 0.1", "line whose class is not a whole number from 0, left out"),
        ("0 0.5 0.5 -0.1 0.1", "box without positive width and height, left out"),
        ("0 0.5 0.5 0.1 0", "box without positive width and height, left out"),
        ("0 nan 0.5 0.1 0.1", "box with numbers that are not finite or absurdly large, left out"),
        ("0 50 25 10 10", "numbers that are no shares of the picture (0 to 1; are they pixels?), box left out"),
        ("0 0.5 0.5 0.1", "line that is neither a box (5 numbers) nor an outline (class, 3 points or more), left out"),
        ("cat 0.5 0.5 0.1 0.1", "line that is not made of numbers, left out"),
        ("0,0.5,0.5,0.1,0.1", "line that is not made of numbers, left out"),
    ],
)
def test_bad_lines_are_counted_with_their_place(tmp_path: Path, lines: str, kind: str) -> None:
    boxes, dataset = one(tmp_path, f"0 0.5 0.5 0.2 0.2\n{lines}\n")
    assert len(boxes) == 1
    assert dataset.report.counts[kind] == 2  # its picture is in both splits
    assert "labels/train/p.txt:2" in dataset.report.examples(kind)[0]


def test_lines_that_can_be_understood_are(tmp_path: Path) -> None:
    """CRLF, a byte order mark, tabs, empty lines, ``0.0`` for a class, twice the same, a score."""
    text = b"\xef\xbb\xbf0 0.5 0.5 0.2 0.2\r\n\r\n1.0\t0.25 0.5\t0.1 0.2 \r\n"
    text += b"0 0.5 0.5 0.2 0.2\r\n0 0.1 0.1 0.1 0.1 0.93"
    boxes, dataset = one(tmp_path, text)
    assert [(box.label, box.bbox) for box in boxes] == [
        (0, (40, 20, 20, 10)), (1, (20, 20, 10, 10)), (0, (5, 2.5, 10, 5)),
    ]  # fmt: skip
    assert dataset.report.counts == {
        "line that stands twice in its file, counted once": 2,
        "line with a sixth number (a score?), which is not used": 2,
    }


def test_outlines_and_rotated_boxes_give_the_box_around_them(tmp_path: Path) -> None:
    boxes, _ = one(tmp_path, "0 0.1 0.2 0.5 0.2 0.3 0.8\n1 0.5 0.0 1.0 0.5 0.5 1.0 0.0 0.5\n")
    assert [box.bbox for box in boxes] == [(10, 10, 40, 30), (0, 0, 100, 50)]


def test_keypoints_stand_behind_the_box(tmp_path: Path) -> None:
    boxes, _ = one(tmp_path, "0 0.5 0.5 0.2 0.2 0.9 0.9 2 0.1 0.1 0\n", "names: [cat]\nkpt_shape: [2, 3]")
    assert [box.bbox for box in boxes] == [(40, 20, 20, 10)]


def test_an_empty_file_is_an_empty_picture_and_no_file_is_counted(tmp_path: Path) -> None:
    boxes, dataset = one(tmp_path, "")
    assert boxes == [] and dataset.report.counts == {} and dataset.pictures[0].labelled
    write_picture(tmp_path / "images" / "train" / "alone.png", 2)
    (tmp_path / "labels" / "train" / "ghost.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    (tmp_path / "labels" / "train" / "classes.txt").write_text("cat\ndog\n")
    dataset = read_yolo(tmp_path)
    assert dataset.report.counts == {
        "picture without a file of labels, taken for an empty one": 2,
        "file of labels without a picture, left out": 1,
    }
    assert dataset.report.examples("file of labels without a picture, left out")[0].endswith("ghost.txt")


def test_labels_that_are_no_text_and_pictures_that_are_none(tmp_path: Path) -> None:
    _, dataset = one(tmp_path, b"\xff\xfe\x00bad")
    assert dataset.report.counts == {"file of labels that is no text in UTF-8, left out": 2}
    (tmp_path / "images" / "train" / "p.png").write_bytes(b"GIF89a...")
    dataset = read_yolo(tmp_path)
    assert dataset.report.counts == {"picture left out": 2}
    assert "not an image in a known format" in dataset.pictures[0].error


# ------------------------------------------------------------------------------------------------ layouts
def test_roboflow_names_folders_beside_the_wrong_parent(tmp_path: Path) -> None:
    for number, split in enumerate(("train", "valid")):
        write_picture(tmp_path / split / "images" / "a.jpg", number)
        (tmp_path / split / "labels").mkdir()
        (tmp_path / split / "labels" / "a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (tmp_path / "data.yaml").write_text("train: ../train/images\nval: ../valid/images\nnc: 1\nnames: ['cat']\n")
    dataset = read_dataset(tmp_path)
    assert [(picture.split, picture.name, len(picture.boxes)) for picture in dataset.pictures] == [
        ("train", "a.jpg", 1), ("val", "a.jpg", 1),
    ]  # fmt: skip
    assert dataset.report.counts == {}


@pytest.mark.parametrize("how", ["absolute", "relative", "missing"])
def test_path_of_data_yaml(tmp_path: Path, how: str) -> None:
    root = write_yolo(tmp_path / "set")
    path = {"absolute": str(root), "relative": "../set", "missing": "/nowhere/datasets/coco8"}[how]
    config = tmp_path / "yamls" / "mine.yaml"
    if how == "missing":
        config = root / "data.yaml"
    config.parent.mkdir(exist_ok=True)
    config.write_text(f"path: {path}\ntrain: images/train\nval: [images/val]\ntest:\nnames: [cat, dog]\n")
    dataset = read_dataset(config)
    assert [len(dataset.of(split)) for split in dataset.splits] == [4, 2]
    expected = ["path of data.yaml is not there, its own folder is taken"] if how == "missing" else []
    assert list(dataset.report.counts) == expected


def test_lists_of_pictures(tmp_path: Path) -> None:
    root = write_yolo(tmp_path)
    (root / "train.txt").write_text("./images/train/0.png\r\nimages/train/1.png\n\n" + str(root / "images/train/2.png"))
    (root / "val.txt").write_text("./images/val/4.png\n./images/val/gone.png\n")
    (root / "data.yaml").write_text("train: train.txt\nval: val.txt\nnames: [cat, dog]\n")
    dataset = read_dataset(root)
    assert [(p.split, p.name, len(p.boxes)) for p in dataset.pictures] == [
        ("train", "images/train/0.png", 1), ("train", "images/train/1.png", 1), ("train", "images/train/2.png", 1),
        ("val", "images/val/4.png", 1), ("val", "images/val/gone.png", 0),
    ]  # fmt: skip
    assert dataset.report.counts["picture left out"] == 1


@pytest.mark.parametrize("layout", ["images/train", "train/images", "train", "flat", "beside"])
def test_folders_without_data_yaml(tmp_path: Path, layout: str) -> None:
    folder = tmp_path / {"flat": "images", "beside": ""}.get(layout, layout)
    write_picture(folder / "a.png", 1)
    labels = label_file(folder / "a.png")
    labels.parent.mkdir(parents=True, exist_ok=True)
    labels.write_text("1 0.5 0.5 0.25 0.5\n")
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    dataset = read_dataset(tmp_path)
    (picture,) = dataset.pictures
    assert picture.split == ("" if layout in ("flat", "beside") else "train")
    assert (picture.name, picture.boxes[0].bbox, dataset.classes[1].name) == ("a.png", (24, 12, 16, 24), "dog")


def test_without_names_classes_are_called_by_their_numbers(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", 1)
    (tmp_path / "a.txt").write_text("2 0.5 0.5 0.25 0.5\n")
    dataset = read_dataset(tmp_path)
    assert [one.name for one in dataset.classes] == ["class_0", "class_1", "class_2"]
    assert list(dataset.report.counts) == ["no names of classes (data.yaml, classes.txt): called by their numbers"]


def test_unicode_spaces_and_several_dots_in_names(tmp_path: Path) -> None:
    root = write_yolo(tmp_path, 1, 1)
    for name in ("Fräulein 猫 1.v2", "images"):
        write_picture(root / "images" / "train" / f"{name}.png", 7)
        (root / "labels" / "train" / f"{name}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (root / "data.yaml").write_text("train: images/train\nval: images/val\nnames:\n  0: Süßes Kätzchen\n  1: '犬'\n")
    dataset = read_dataset(root)
    assert [len(picture.boxes) for picture in dataset.pictures] == [1, 1, 1, 1]
    assert [one.name for one in dataset.classes] == ["Süßes Kätzchen", "犬"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: [", "is not valid YAML"),
        ("- a\n", "holds no names and splits"),
        ("names: [a, a]\ntrain: .\n", "'a' stands there twice"),
        ("names: {x: a}\ntrain: .\n", "class numbers from 0"),
        ("names: 3\ntrain: .\n", "must be a list"),
        ("names: [a]\n", "names no split"),
        ("names: [a]\ntrain: 3\n", "write a folder"),
        ("names: [a]\ntrain: .\nkpt_shape: 17\n", "two whole numbers"),
        ("names: {.inf: a}\ntrain: .\n", "class numbers from 0"),
        ("names: [a]\ntrain: .\ndate: 2024-13-45\n", "is not valid YAML: month"),
        (f"names: [a]\ntrain: .\nversion: {'9' * 5000}\n", "is not valid YAML"),
        ("names: " + 3000 * "[", "is not valid YAML"),
        ("names: !!python/object/apply:os.system ['echo']\ntrain: .\n", "is not valid YAML"),
    ],
)
def test_a_data_yaml_that_cannot_be_used_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "data.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        read_yolo(tmp_path)


def test_names_that_do_not_fit_nc_count(tmp_path: Path) -> None:
    _, dataset = one(tmp_path, "1 0.5 0.5 0.2 0.2\n", "nc: 80\nnames: [cat, dog]")
    assert len(dataset.classes) == 2
    assert list(dataset.report.counts) == ["data.yaml: nc is not the number of names, the names count"]


# -------------------------------------------------------------------------------------------------- sizes
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", ["II", "MM"])
def test_the_size_is_that_of_decoding(tmp_path: Path, orientation: int, order: str) -> None:
    """With each EXIF orientation, in both orders of bytes."""
    kind = "little" if order == "II" else "big"

    def number(value: int, size: int) -> bytes:
        return value.to_bytes(size, kind)  # type: ignore[arg-type]

    entry = number(0x0112, 2) + number(3, 2) + number(1, 4) + number(orientation, 2) + b"\0\0"
    tiff = order.encode() + number(42, 2) + number(8, 4) + number(1, 2) + entry + number(0, 4)
    body = b"Exif\0\0" + tiff
    plain = cv2.imencode(".jpg", np.zeros((20, 30, 3), np.uint8))[1].tobytes()
    data = plain[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body + plain[2:]
    (tmp_path / "a.jpg").write_bytes(data)
    height, width = decode(data).shape[:2]
    assert picture_size(tmp_path / "a.jpg") == (width, height) == ((20, 30) if orientation >= 5 else (30, 20))


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".webp", ".tif", ".jpg"])
def test_the_size_of_each_format(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (301, 203, 3)).astype(np.uint8)  # more than the head
    (tmp_path / f"a{suffix}").write_bytes(cv2.imencode(suffix, noise)[1].tobytes())
    assert picture_size(tmp_path / f"a{suffix}") == (203, 301)


def test_without_pyyaml_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_yolo(tmp_path)
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(UserError, match=r"PyYAML is not installed; pip install 'hatdet\[data\]'"):
        read_dataset(root)
    (root / "data.yaml").unlink()
    assert len(read_dataset(root).pictures) == 6, "folders alone need no YAML"
