"""Numbers of the report, by hand, and which pictures are called suspicious."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hatdet.data.coco_entries import Annotation
from hatdet.data.folders.dataset import DataSet, Picture, numbered
from hatdet.data.folders.look import Look
from hatdet.data.folders.statistics import box_table, histogram, picture_sizes, place_map, small_shares
from hatdet.data.folders.suspicious import suspicious
from hatdet.data.report import Report


def make(*pictures: list[tuple[float, ...]], size: tuple[int, int] = (200, 100)) -> tuple[DataSet, list[Look]]:
    """A picture of (width, height) for each list of boxes (x, y, w, h, label, or 0)."""
    found, looks = [], []
    for number, boxes in enumerate(pictures):
        made = [Annotation(f"box {i}", box[:4], int([*box, 0][4]), 1.0, False) for i, box in enumerate(boxes)]  # type: ignore[arg-type]
        split, name = ("train", "val")[number % 2], f"{number}.png"
        found.append(Picture(split, Path(name), name, *size, made))
        looks.append(Look(size=size, stored=size, checksum=(number, 9), deviation=40.0))
    return DataSet(Path("d"), "COCO", numbered(["cat", "dog"]), found, Report("d")), looks


def test_sizes_count_at_the_input_with_the_aspect_kept() -> None:
    """200x100 into 100x100: halved. Sides 1.9, 2, 7.9, 8, 40 there."""
    dataset, looks = make([(0, 0, 3.8, 50), (0, 0, 4, 4), (0, 0, 15.8, 99), (0, 0, 16, 16), (10, 10, 180, 80)])
    table = box_table(dataset, looks, (100, 100))
    assert np.allclose(table.side, [1.9, 2, 7.9, 8, 40])
    assert small_shares(table) == {2: 0.2, 8: 0.6, 16: 0.8}
    assert histogram(table.side, (0, 2, 8)) == [("0 to 2", 1), ("2 to 8", 2), ("8 and more", 2)]
    assert np.allclose(table.ratio, [3.8 / 50, 1, 15.8 / 99, 1, 2.25])


def test_small_pictures_are_enlarged_as_training_does() -> None:
    dataset, looks = make([(0, 0, 4, 5)], size=(20, 10))
    assert box_table(dataset, looks, (320, 640)).side.tolist() == [128]


def test_places_are_centres() -> None:
    dataset, looks = make([(0, 0, 10, 4), (190, 90, 20, 20), (100, 50, 1, 1)])
    counts = place_map(box_table(dataset, looks, (100, 100)))
    assert counts.sum() == 3 and counts[0, 0] == counts[15, 15] == counts[8, 8] == 1


def test_no_box_at_all() -> None:
    dataset, looks = make([], [])
    table = box_table(dataset, looks, (320, 320))
    assert small_shares(table) == {2: 0.0, 8: 0.0, 16: 0.0} and place_map(table).sum() == 0
    assert suspicious(dataset, looks, table, []) == []
    assert picture_sizes(dataset, looks) == [("200x100", 2)]


def test_what_is_suspicious_and_why() -> None:
    usual = [(20, 20, 30, 30)]
    dataset, looks = make(
        usual, usual, [*usual, (20, 20, 30, 30)], [(180, 20, 40, 30)], [(20, 20, 30, 30), (21, 20, 30, 30, 1)],
        [(5, 5, 0.5, 9)], usual, usual, usual, [(i, 20, 30, 30) for i in range(0, 170, 10)],
    )  # fmt: skip
    looks[7] = Look("the file is empty")
    looks[8].deviation = 0.5
    found = suspicious(dataset, looks, box_table(dataset, looks, (100, 100)), [(0, 1)])
    assert {one.position: one.reasons for one in found} == {
        7: ["cannot be used: the file is empty"],
        2: ["1 box marked twice"],
        3: ["1 box outside the picture"],
        8: ["of one colour"],
        5: ["1 box less than a pixel wide or high", "1 box very long and thin", "a cat far smaller than the others"],
        0: ["looks like val/1.png"],
        1: ["looks like train/0.png"],
        4: ["1 box of two classes in one place"],
        9: ["17 boxes, half of the pictures have up to 1"],
    }
    assert found[0].position == 7 and found[-1].position == 9
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)


def test_an_object_of_another_scale_than_its_class() -> None:
    boxes = [(20, 20, 20 + i % 3, 20) for i in range(30)]
    dataset, looks = make(*[[box] for box in boxes], [(0, 0, 200, 100)])
    (one,) = suspicious(dataset, looks, box_table(dataset, looks, (100, 100)), [])
    assert (one.position, one.reasons) == (30, ["a cat far larger than the others"])
