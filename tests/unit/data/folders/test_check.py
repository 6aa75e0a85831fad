"""What the check of a data set finds, and pictures that look alike."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from hatdet.data.coco_entries import Annotation
from hatdet.data.folders.alike import alike_pairs, groups
from hatdet.data.folders.check import Finding, check_dataset, iou
from hatdet.data.folders.dataset import DataSet, Picture, numbered
from hatdet.data.folders.look import look_at, look_at_all, perceptual_hash
from hatdet.data.report import Report
from tests.helpers.folders import write_picture


def box(*numbers: float, label: int = 0) -> Annotation:
    return Annotation(f"box {numbers[0]:g}", tuple(numbers), label, 1.0, False)  # type: ignore[arg-type]


def check(pictures: list[Picture], classes: str = "cat dog") -> dict[str, Finding]:
    dataset = DataSet(Path("d"), "COCO", numbered(classes.split()), pictures, Report("d"))
    found = check_dataset(dataset, look_at_all(pictures, 0, quiet=True))
    assert [f.level for f in found] == sorted(f.level for f in found), "errors first"
    return {finding.what: finding for finding in found}


@pytest.fixture
def picture(tmp_path: Path) -> Picture:
    write_picture(tmp_path / "a.png", 1)
    return Picture("train", tmp_path / "a.png", "a.png", 64, 48, [box(1, 2, 3, 4), box(20, 5, 6, 7, label=1)])


@pytest.fixture
def val(tmp_path: Path) -> Picture:
    write_picture(tmp_path / "v.png", 2)
    return Picture("val", tmp_path / "v.png", "v.png", 64, 48, [box(1, 2, 3, 4), box(20, 5, 6, 7, label=1)])


def test_a_good_set_has_no_finding(picture: Picture, val: Picture) -> None:
    assert check([picture, val]) == {}


@pytest.mark.parametrize(
    ("numbers", "level", "what"),
    [
        ((64, 5, 3, 3), "error", "box wholly outside its picture (left out)"),
        ((5, -9, 3, 8), "error", "box wholly outside its picture (left out)"),
        ((60, 5, 6, 3), "error", "box that reaches out of its picture (clipped)"),
        ((60, 5, 4.9, 3), "", ""),
        ((30, 5, 0.5, 9), "note", "box less than a pixel wide or high (not learned)"),
        ((20.1, 5.1, 6, 7), "note", "two classes in one place"),
        ((1, 2, 3, 4), "error", "object marked twice: two boxes of one class in one place"),
    ],
)
def test_boxes(picture: Picture, val: Picture, numbers: tuple[float, ...], level: str, what: str) -> None:
    picture.boxes.append(box(*numbers))
    found = check([picture, val])
    assert {name: (f.level, f.count) for name, f in found.items()} == ({what: (level, 1)} if what else {})


def test_damage_and_sizes(picture: Picture, val: Picture, tmp_path: Path) -> None:
    data = picture.path.read_bytes()
    (tmp_path / "cut.png").write_bytes(data[: len(data) // 2])
    cut = replace(picture, path=tmp_path / "cut.png", name="cut.png")
    gone = replace(picture, path=tmp_path / "no.png", name="no.png")
    write_picture(tmp_path / "big.png", 5)
    double = replace(picture, path=tmp_path / "big.png", name="big.png", width=128, height=96)
    write_picture(tmp_path / "turned.png", 6)
    turned = replace(picture, path=tmp_path / "turned.png", name="turned.png", width=48, height=64)
    found = check([picture, val, cut, gone, double, turned])
    assert {name: (f.level, f.count) for name, f in found.items()} == {
        "picture that cannot be used": ("error", 2),
        "listed size is of another aspect than the picture's (left out in training)": ("error", 1),
        "listed size is not the picture's, of the same aspect (boxes are scaled)": ("note", 1),
    }
    assert found["picture that cannot be used"].examples[1] == "train/no.png: does not exist"


def test_classes(picture: Picture, val: Picture) -> None:
    picture.boxes = [box(1, 2, 3, 4)]
    val.boxes = [box(1, 2, 3, 4, label=1), box(20, 5, 6, 7, label=2)]
    found = check([picture, val], "cat Cat dog bird")
    assert {name: (f.level, f.examples) for name, f in found.items()} == {
        "class names that differ in case or spaces alone": ("error", ["'cat' and 'Cat'"]),
        "class that training never sees": ("error", ["'Cat': only in val", "'dog': only in val"]),
        "class that validation never sees": ("note", ["'cat'"]),
        "class without a box": ("note", ["'bird'"]),
    }


def test_copies_and_look_alikes_across_splits(picture: Picture, val: Picture, tmp_path: Path) -> None:
    shutil.copy(picture.path, tmp_path / "copy.png")
    copy = replace(val, path=tmp_path / "copy.png", name="copy.png", boxes=[*picture.boxes, box(40, 20, 5, 5)])
    pixels = cv2.imread(str(val.path))
    cv2.imwrite(str(tmp_path / "small.jpg"), cv2.resize(pixels, (40, 30)), [cv2.IMWRITE_JPEG_QUALITY, 60])
    small = replace(picture, path=tmp_path / "small.jpg", name="small.jpg", width=40, height=30)
    found = check([picture, val, copy, small])
    assert {name: (f.level, f.examples) for name, f in found.items()} == {
        "the same picture in two splits (AP is too high)": ("error", ["train/a.png = val/copy.png"]),
        "the same picture with other boxes": ("error", ["train/a.png = val/copy.png"]),
        "pictures that look alike in two splits (AP is too high)": ("error", ["val/v.png and train/small.jpg"]),
    }


def test_empty_uniform_and_no_validation(picture: Picture, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "black.png"), np.zeros((48, 64, 3), np.uint8))
    black = replace(picture, path=tmp_path / "black.png", name="black.png", boxes=[])
    assert {name: (f.level, f.count) for name, f in check([picture, black]).items()} == {
        "picture of one colour": ("note", 1),
        "no validation split: 'tools/data.py split' makes one": ("note", 1),
        "pictures without a box (training leaves them out, validation keeps them)": ("note", 1),
    }


def test_commands_are_named_as_they_were_typed(picture: Picture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/usr/bin/hatdet", "data", "report"])
    assert "no validation split: 'hatdet data split' makes one" in check([picture])


def test_what_the_reader_counted_is_repeated_with_its_level(picture: Picture, val: Picture) -> None:
    report = Report("d")
    for number in range(9):
        report.add("line left out", f"line {number}")
    report.add("said otherwise")
    dataset = DataSet(Path("d"), "YOLO", numbered(["cat", "dog"]), [picture, val], report)
    first, second = check_dataset(dataset, look_at_all([picture, val], 0, quiet=True))
    assert str(first) == "error: line left out (9): line 0; line 1; line 2; line 3; line 4; and 4 more"
    assert str(second) == "note: said otherwise (1)"


# -------------------------------------------------------------------------------------------------- alike
def test_hash_by_hand() -> None:
    """One cosine of frequency (0, 1): that coefficient alone is large, and the mean is."""
    x = np.arange(32)
    gray = np.tile(np.round(128 + 100 * np.cos(np.pi * (2 * x + 1) / 64)), (32, 1)).astype(np.uint8)
    value = perceptual_hash(gray)
    assert value >> 62 == 0b11, "the first bits are those of frequencies (0, 0) and (0, 1)"
    assert (value ^ perceptual_hash(gray[:, ::-1])) >> 62 == 0b01, "mirrored, the sign of (0, 1) turns"


def test_pairs_of_many_are_found_exactly(tmp_path: Path) -> None:
    looks = []
    for number in range(40):
        write_picture(tmp_path / f"{number}.png", number)
        looks.append(look_at(tmp_path / f"{number}.png"))
    pixels = cv2.imread(str(tmp_path / "7.png"))
    bright = cv2.convertScaleAbs(pixels, alpha=0.8, beta=30)
    for name, changed in (("crop", pixels[1:-1, 1:-1]), ("bright", bright)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), changed)
        looks.append(look_at(tmp_path / f"{name}.png"))
    assert alike_pairs(looks) == [(7, 40), (7, 41), (40, 41)]
    assert alike_pairs(looks, likeness=1.01) == []


def test_one_scene_has_pairs_of_both_ends_and_is_one_group(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", 1)
    look = look_at(tmp_path / "a.png")
    looks = [replace(look, checksum=(number, 1)) for number in range(500)]
    pairs = alike_pairs(looks)
    assert {(0, 1), (0, 100), (0, 499), (0, 400)} <= set(pairs) and not {(0, 101), (0, 399)} & set(pairs)
    assert groups(500, pairs) == [list(range(500))]


def test_groups_are_connected_parts() -> None:
    assert groups(6, [(4, 1), (1, 3), (0, 5)]) == [[0, 5], [1, 3, 4], [2]]
    assert groups(0, []) == []


def test_iou_by_hand() -> None:
    assert iou((0, 0, 4, 4), (2, 0, 4, 4)) == pytest.approx(8 / 24)
    assert iou((0, 0, 4, 4), (4, 0, 4, 4)) == 0
