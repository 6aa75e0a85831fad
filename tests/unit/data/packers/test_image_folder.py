"""Image folders as packed sets, and the crops for classification."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from hatdet.commands.image_folder_packer import main
from hatdet.data.collate import Collate2D
from hatdet.data.datasets.coco_lmdb import CocoFromLMDB
from hatdet.data.packers.image_folder import find_images, pack_image_folder
from hatdet.data.transforms.crop import CenterCrop, RandomResizedCrop
from hatdet.data.transforms.tensor import ToTensor
from hatdet.utils.errors import UserError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Class b before class a on the disk; a picture in a subfolder, one wide, one tall, one that is no picture."""
    for name, size, level in [("b/1.png", (20, 40), 10), ("a/deep/2.png", (40, 20), 20), ("a/3.png", (30, 30), 30)]:
        file = tmp_path / "set" / "train" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), np.full((*size, 3), level, np.uint8))
    (tmp_path / "set" / "train" / "a" / "broken.jpg").write_bytes(b"no picture")
    (tmp_path / "set" / "train" / "notes.txt").write_text("not a class")
    return tmp_path / "set"


def test_classes_are_the_folders_in_alphabetical_order(folder: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    pack_image_folder(folder / "train", tmp_path / "train_lmdb", quiet=True, log=lines.append)
    assert any("broken.jpg" in line for line in lines)
    data = CocoFromLMDB(data_path=tmp_path / "train_lmdb", transforms=[CenterCrop((16, 16), 20), ToTensor()])
    assert data.classes == ("a", "b")
    batch = Collate2D()([data[i] for i in range(len(data))])
    levels = batch["img"][:, 0, 0, 0].tolist()
    assert dict(zip(levels, batch["gt_labels"][:, 0].tolist(), strict=True)) == {10: 1, 20: 0, 30: 0}
    assert batch["img"].shape == (3, 3, 16, 16)


def test_packing_again_changes_nothing(folder: Path, tmp_path: Path) -> None:
    arguments = ["--src-data-dir", str(folder), "--target-data-dir", str(tmp_path / "out"), "--split-name", "train"]
    main(arguments)
    before = (tmp_path / "out" / "train_lmdb" / "data.mdb").stat().st_mtime_ns
    main(arguments)
    assert (tmp_path / "out" / "train_lmdb" / "data.mdb").stat().st_mtime_ns == before
    assert (tmp_path / "out" / "train_labels.json").is_file()


@pytest.mark.parametrize("seed", range(5))
def test_a_random_crop_keeps_the_class_and_has_the_size(folder: Path, tmp_path: Path, seed: int) -> None:
    pack_image_folder(folder / "train", tmp_path / "train_lmdb", quiet=True, log=lambda line: None)
    crop = RandomResizedCrop((8, 12), area_range=(0.05, 0.1))
    data = CocoFromLMDB(data_path=tmp_path / "train_lmdb", transforms=[crop, ToTensor()])
    for index in range(len(data)):
        item = data[index]
        assert item["img"].shape == (3, 8, 12) and len(item["gt_labels"]) == 1
        assert item["gt_boxes"].tolist() == [[0, 0, 12, 8]]
        assert len(torch.unique(item["img"])) == 1  # all from inside the picture, none of the fill


def test_what_is_missing_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="val does not exist"):
        find_images(folder / "val")
    (folder / "train" / "empty").mkdir()
    with pytest.raises(UserError, match="in the class folder 'empty'"):
        find_images(folder / "train")
    with pytest.raises(UserError, match="holds no folders"):
        find_images(folder / "train" / "b")
    with pytest.raises(ValueError, match="resize=10 is smaller"):
        CenterCrop((16, 16), 10)
