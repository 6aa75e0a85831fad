"""Splits: every class in its share, nothing that looks alike on both sides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hatdet.data.coco_entries import Annotation
from hatdet.data.folders.dataset import DataSet, Picture, numbered
from hatdet.data.folders.look import Look
from hatdet.data.folders.split import alike_groups, assign, check_shares, division_table, split_dataset
from hatdet.data.report import Report
from hatdet.utils.errors import UserError


def make(count: int, label_of: object, name: str = "{}.png") -> tuple[DataSet, list[Look]]:
    """Pictures whose labels ``label_of(i)`` lists; each looks like no other."""
    rng = np.random.default_rng(0)
    pictures, looks = [], []
    for i in range(count):
        boxes = [Annotation("", (0, 0, 5, 5), label, 25, False) for label in label_of(i)]  # type: ignore[operator]
        pictures.append(Picture("train", Path(name.format(i)), name.format(i), 64, 48, boxes))
        small = rng.normal(size=256).astype(np.float32)
        small /= np.linalg.norm(small)
        looks.append(Look(size=(64, 48), checksum=(i, 9), hash=int(rng.integers(1 << 62)), small=small))
    return DataSet(Path("d"), "COCO", numbered(["often", "rare"]), pictures, Report("d")), looks


def counts(dataset: DataSet) -> list[list[str]]:
    return [row[1:] for row in division_table(dataset)[1:]]


def test_each_class_gets_its_share() -> None:
    """90 pictures of a frequent class, 10 that have a rare one too."""
    dataset, looks = make(100, lambda i: [0, 0, 1] if i % 10 == 3 else [0])
    divided, _ = split_dataset(dataset, looks, {"val": 0.2, "test": 0.1})
    assert division_table(divided)[0] == ["", "train", "val", "test"]
    assert counts(divided) == [
        ["70 (70%)", "20 (20%)", "10 (10%)"],
        ["77 (70%)", "22 (20%)", "11 (10%)"],
        ["7 (70%)", "2 (20%)", "1 (10%)"],
    ]
    assert {picture.name for picture in divided.pictures} == {picture.name for picture in dataset.pictures}


def test_empty_pictures_are_shared_out_too() -> None:
    dataset, looks = make(40, lambda i: [] if i < 20 else [0])
    divided, _ = split_dataset(dataset, looks, {"val": 0.25})
    assert sum(not picture.boxes for picture in divided.of("val")) == 5


def test_the_seed_decides_and_nothing_else() -> None:
    dataset, looks = make(50, lambda i: [i % 2])

    def division(seed: int) -> list[str]:
        return [picture.split for picture in split_dataset(dataset, looks, {"val": 0.2}, seed)[0].pictures]

    assert division(0) == division(0) != division(1)


def test_look_alikes_and_augmented_copies_stay_together() -> None:
    dataset, looks = make(30, lambda i: [0])
    for first in range(0, 12, 4):
        for other in range(first + 1, first + 4):
            looks[other].small, looks[other].hash = looks[first].small, looks[first].hash
    for number in (20, 24, 28):
        dataset.pictures[number].path = Path(f"street_jpg.rf.{number:032x}.jpg")
    for seed in range(5):
        divided, groups = split_dataset(dataset, looks, {"val": 0.3, "test": 0.2}, seed)
        for group in groups:
            assert len({divided.pictures[i].split for i in group}) == 1
        assert [group for group in groups if len(group) > 1] == [
            [0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [20, 24, 28],
        ]  # fmt: skip
    _, groups = split_dataset(dataset, looks, {"val": 0.3}, likeness=None)
    assert len(groups) == 30


def test_kept_splits_stay_and_draw_what_looks_like_them() -> None:
    dataset, looks = make(20, lambda i: [0])
    for position in (3, 4):
        dataset.pictures[position].split = "test"
    looks[9].small, looks[9].hash = looks[3].small, looks[3].hash
    divided, _ = split_dataset(dataset, looks, {"val": 0.5}, keep=["test"])
    assert [i for i, picture in enumerate(divided.pictures) if picture.split == "test"] == [3, 4, 9]
    assert len(divided.of("val")) in (8, 9)


def test_damaged_pictures_are_left_out() -> None:
    dataset, looks = make(10, lambda i: [0])
    looks[4] = Look("the file is empty")
    divided, _ = split_dataset(dataset, looks, {"val": 0.3})
    assert [picture.name for picture in divided.pictures] == [f"{i}.png" for i in range(10) if i != 4]


def test_no_split_stays_empty() -> None:
    dataset, looks = make(3, lambda i: [0])
    divided, _ = split_dataset(dataset, looks, {"val": 0.01, "test": 0.01})
    assert sorted(picture.split for picture in divided.pictures) == ["test", "train", "val"]
    dataset, looks = make(2, lambda i: [0])
    with pytest.raises(UserError, match="2 groups that look alike: too few for 3 splits"):
        split_dataset(dataset, looks, {"val": 0.1, "test": 0.1})


def test_assign_by_hand() -> None:
    """Two columns, four rows, halves: each half gets one of each."""
    chosen = assign(np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]), np.array([0.5, 0.5]), 0)
    assert sorted(chosen[:2]) == [0, 1] == sorted(chosen[2:])


def test_groups_of_nothing() -> None:
    assert alike_groups([], []) == []


@pytest.mark.parametrize("shares", [{"val": 1.0}, {"val": -0.1}, {"val": 0.0}, {"val": 0.6, "test": 0.5}])
def test_shares_that_are_none_are_refused(shares: dict[str, float]) -> None:
    with pytest.raises(UserError, match="share of the pictures|less than 1"):
        check_shares(shares)
