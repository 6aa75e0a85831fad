"""16-bit pictures with 10, 12 or 14 bits in use: scaled from these, alike in every data set of a model."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from torch import nn

from hatdet.commands.infer.process import picture_bits
from hatdet.data.datasets.coco import CocoDataset
from hatdet.data.image_file import bits_of, decode
from hatdet.engine.checkpoints.bits import settle_bits
from hatdet.export.images import bits_in_use, read_image
from hatdet.utils.class_names import KnownClasses


def ramp(largest: int) -> np.ndarray:
    """uint16 (16, 32), from 0 to ``largest``."""
    return np.linspace(0, largest, 16 * 32).round().astype(np.uint16).reshape(16, 32)


def write(root: Path, split: str, pictures: list[np.ndarray], suffix: str = ".png") -> None:
    (root / split).mkdir(parents=True)
    images, boxes = [], []
    for number, picture in enumerate(pictures, 1):
        assert cv2.imwrite(str(root / split / f"{number}{suffix}"), picture)
        height, width = picture.shape[:2]
        images.append({"id": number, "file_name": f"{number}{suffix}", "width": width, "height": height})
        boxes.append({"id": number, "image_id": number, "category_id": 1, "bbox": [1, 1, 9, 9]})
    content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "a"}]}
    (root / f"{split}.json").write_text(json.dumps(content))


def data(root: Path, split: str, **more: Any) -> CocoDataset:
    return CocoDataset(root, f"{split}.json", split, [], test_mode=True, **more)


def pixels(dataset: CocoDataset, index: int) -> np.ndarray:
    return dataset.raw(index).tiles[0].source.pixels()


def test_bits_in_use() -> None:
    assert [bits_of(v) for v in (0, 255, 256, 1023, 1024, 4095, 4096, 16383, 16384, 65535)] == [
        8, 8, 10, 10, 12, 12, 14, 14, 16, 16,
    ]  # fmt: skip


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_twelve_bits(tmp_path: Path, suffix: str) -> None:
    """The darkest picture is scaled as the others: the data set decides. Grey and colour; an 8-bit picture stays."""
    bright, dark, colour = ramp(4095), ramp(700), np.stack([ramp(4000), ramp(2000), ramp(100)], axis=2)
    plain = np.arange(256, dtype=np.uint8).reshape(16, 16)
    write(tmp_path, "train", [bright, dark, colour, plain], suffix)
    dataset = data(tmp_path, "train")
    assert (dataset.bits, dataset.deep_images) == (12, 3)
    for index, picture in enumerate([bright, dark]):
        assert np.array_equal(pixels(dataset, index)[..., 1], picture >> 4)
    assert np.array_equal(pixels(dataset, 2), colour >> 4)
    assert np.array_equal(pixels(dataset, 3)[..., 0], plain)
    assert len(np.unique(pixels(dataset, 0))) == 256  # 16 in an earlier version
    text = "16-bit pictures with 12 bits in use, scaled from these (3): largest value 4095, a value v becomes v >> 4"
    assert text in dataset.summary()


def test_sixteen_bits_are_decoded_as_ever(tmp_path: Path) -> None:
    write(tmp_path, "train", [ramp(65535), ramp(900)])
    dataset = data(tmp_path, "train")
    assert dataset.bits == 16 and "bits in use" not in dataset.summary()
    for index in (0, 1):
        assert np.array_equal(pixels(dataset, index), decode((tmp_path / "train" / f"{index + 1}.png").read_bytes()))


def test_shrinking_keeps_the_bits(tmp_path: Path) -> None:
    write(tmp_path, "train", [np.full((20, 40), 4000, np.uint16)])
    dataset = data(tmp_path, "train", max_side=20)
    assert dataset.bits == 12 and pixels(dataset, 0).shape == (10, 20, 3) and (pixels(dataset, 0) == 250).all()


def test_a_single_file_takes_the_bits_of_the_checkpoint(tmp_path: Path) -> None:
    write(tmp_path, "train", [ramp(700)])
    path = tmp_path / "train" / "1.png"
    assert np.array_equal(read_image(path, 12)[..., 0], ramp(700) >> 4)
    assert np.array_equal(read_image(path, 8)[..., 0], np.minimum(ramp(700), 255))
    assert np.array_equal(read_image(path), decode(path.read_bytes()))


def test_pictures_of_which_nothing_is_known(tmp_path: Path) -> None:
    write(tmp_path, "train", [ramp(700), ramp(3000), np.zeros((16, 16), np.uint8)])
    paths = [*sorted((tmp_path / "train").iterdir()), tmp_path / "absent.png"]
    assert bits_in_use(paths) == picture_bits(None, paths) == picture_bits(KnownClasses(("a",), "x", 8), paths) == 12
    assert picture_bits(KnownClasses(("a",), "x", 14), paths) == 14
    assert picture_bits(KnownClasses(("a",), "old"), paths) == bits_in_use(paths[2:]) == 16


def test_a_detector_scales_as_the_version_that_trained_it() -> None:
    told = [KnownClasses(("a",), "x", bits).scaled_bits for bits in (None, 8, 12, 16)]
    assert told == [16, None, 12, 16], "a file that does not say is of a version that took the upper 8 bits"


def test_one_scaling_for_all_data_of_a_model(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="hatdet")
    write(tmp_path, "train", [ramp(4095)])
    write(tmp_path, "val", [ramp(900)])
    write(tmp_path, "plain", [np.zeros((16, 16), np.uint8)])
    model: Any = nn.Module()
    model.source_bits = None

    def settle(known: KnownClasses | None, *splits: str) -> list[int]:
        sets = [data(tmp_path, split) for split in splits]
        settle_bits(model, [SimpleNamespace(dataset=one) for one in sets], known)
        return [one.bits for one in sets]

    assert settle(None, "train", "val") == [12, 12] and model.source_bits == 12
    assert "val.json has 16-bit pictures with 10 bits in use; they are scaled from 12 bits" in caplog.text
    assert settle(KnownClasses(("a",), "x.pth", 12), "val") == [12]
    assert settle(KnownClasses(("a",), "x.pth", 8), "val") == [10]  # trained on 8-bit pictures
    assert settle(KnownClasses(("a",), "old.pth"), "train") == [16]  # by a version that took the upper 8 bits
    assert "they are scaled from 16 bits, as for old.pth" in caplog.text
    settle(None, "plain")
    assert model.source_bits == 8
