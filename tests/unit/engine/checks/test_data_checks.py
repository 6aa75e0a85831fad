"""Objects too small or too many, and pictures in both sets, are said before anything runs."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from torch import nn

from hatdet.data.datasets.coco import CocoDataset
from hatdet.data.transforms.geometry import Pad, Resize
from hatdet.engine.checks.data import data_warnings, shared_pictures, small_objects


class Scaled:
    """A data set whose transforms halve every picture; the network's input is 64 x 96."""

    def input_scale(self, size: tuple[int, int]) -> Any:
        return (0.5, 0.5), (64, 96)


def table(*sides: tuple[float, float], size: tuple[int, int] = (128, 192)) -> np.ndarray:
    return np.array([[w, h, *size, 0] for w, h in sides], np.float32).reshape(-1, 5)


def test_objects_below_two_pixels_by_hand() -> None:
    """Halved: 1.9 and 1 are too small, 2 is not. 1 needs twice the size, 64 x 96 becomes 128 x 192."""
    objects = table((40, 3.8), (2, 50), (4, 4), (30, 30))
    assert small_objects(objects, Scaled()) == (
        "2 of 4 objects (50.0%) are less than 2 pixels wide or high at the network's input of 64x96 and can hardly be "
        "found; imgsz=(128, 192) brings nine of ten of them above"
    )
    assert small_objects(table((4, 4)), Scaled()) == ""
    assert "no larger imgsz brings most of them above" in small_objects(table((0.4, 9)), Scaled())
    assert small_objects(objects, object()) == ""


def test_objects_of_pictures_of_many_sizes() -> None:
    """Each size has its own scale, 134.4 / height: up to a height of 141 an object of 2.1 pixels keeps two."""
    asked = []

    class Fitted:
        def input_scale(self, size: tuple[int, int]) -> Any:
            asked.append(size)
            return (1.0, 134.4 / size[0]), (64, 64)

    rows = [table((9, 2.1), size=(height, 100 + height % 3)) for height in range(64, 256) for _ in range(3)]
    assert small_objects(np.concatenate(rows[::-1]), Fitted()).startswith("342 of 576 objects (59.4%) are less than 2")
    assert asked == sorted(set(asked)) and len(asked) == 192  # one look a size
    assert small_objects(np.zeros((0, 5)), Fitted()) == ""


def write(root: Path, split: str, boxes: list[list[float]], seed: int) -> None:
    (root / split).mkdir(parents=True, exist_ok=True)
    picture = np.random.default_rng(seed).integers(0, 255, (80, 100, 3)).astype(np.uint8)
    cv2.imwrite(str(root / split / "0.png"), picture)
    rows = [{"id": i, "image_id": 1, "category_id": 1, "bbox": box} for i, box in enumerate(boxes, 1)]
    image = {"id": 1, "file_name": "0.png", "width": 100, "height": 80}
    content = {"images": [image], "annotations": rows, "categories": [{"id": 1, "name": "a"}]}
    (root / f"{split}.json").write_text(json.dumps(content))


def loaders(root: Path) -> dict[str, Any]:
    def one(split: str) -> Any:
        transforms = [Resize(img_scale=(40, 40)), Pad(size=(64, 64))]
        return SimpleNamespace(
            dataset=CocoDataset(root, f"{split}.json", split, transforms, test_mode=split == "val", filter_empty=False)
        )

    return {"training": one("train"), "validation": one("val")}


def detector(limit: int) -> nn.Module:
    model = nn.Module()
    model.post_process = SimpleNamespace(max_per_img=limit)
    return model


def test_a_real_data_set(tmp_path: Path) -> None:
    """100 x 80 fits into 40 x 40 as 40 x 32: a scale of 0.4, so 4.9 pixels are 1.96 and 5 are 2."""
    write(tmp_path, "train", [[0, 0, 5, 5], [10, 10, 50, 4.9]], 0)
    write(tmp_path, "val", [[0, 0, 20, 20], [30, 30, 20, 20], [60, 30, 20, 20]], 1)
    assert list(data_warnings(detector(2), loaders(tmp_path))) == [
        "training data: 1 of 2 objects (50.0%) are less than 2 pixels wide or high at the network's input of 64x64 and "
        "can hardly be found; imgsz=(96, 96) brings nine of ten of them above",
        "validation data: 1 picture with more objects (up to 3) than the model gives boxes: raise max_per_img=2 "
        "(detections_per_img) of its post_process",
    ]
    assert not list(data_warnings(nn.Module(), {"validation": loaders(tmp_path)["validation"]}))


def test_validation_without_objects_and_with_the_pictures_of_training(tmp_path: Path) -> None:
    write(tmp_path, "train", [[0, 0, 20, 20]], 0)
    write(tmp_path, "val", [], 0)
    assert list(data_warnings(nn.Module(), loaders(tmp_path))) == [
        "validation data: not one object: AP is not measured, and the last weights count as the best",
        "all pictures of the validation data are in the training data too: AP says that much less about pictures that "
        "the model has not seen",
    ]


def test_some_pictures_in_both() -> None:
    train, val = (SimpleNamespace(picture_sums=lambda s=s: s) for s in ({(1, 2), (3, 4)}, {(3, 4), (5, 6), (7, 8)}))
    assert shared_pictures(train, val).startswith("1 of 3 pictures of the validation data are in the training data too")
    assert shared_pictures(train, SimpleNamespace()) == ""


@pytest.mark.parametrize("kind", ["Mosaic", "pixels"])
def test_transforms_that_need_more_than_a_size(tmp_path: Path, kind: str) -> None:
    from hatdet.data.datasets.objects import input_scale

    def looks(sample: Any, ctx: Any) -> Any:
        sample.tiles[0].source.pixels() if kind == "pixels" else ctx.partners.load(0)

    assert input_scale([looks], (10, 10)) is None


def test_objects_that_no_input_size_brings_back(tmp_path: Path) -> None:
    """Half a pixel of the picture is left out of training, however large the input is: no imgsz is advised for it."""
    write(tmp_path, "train", [[0, 0, 0.5, 20], [10, 10, 50, 20]], 0)
    write(tmp_path, "val", [[0, 0, 20, 20]], 1)
    lines = [
        "training data: 1 of 2 objects (50.0%) are less than a pixel wide or high in their own pictures and are not "
        "learned: look at these annotations (are they in pixels?)"
    ]
    assert list(data_warnings(nn.Module(), loaders(tmp_path))) == lines
    write(tmp_path, "train", [[0, 0, 0.5, 20]], 2)
    (line,) = data_warnings(nn.Module(), loaders(tmp_path))
    assert line.startswith("training data: 1 of 1 objects (100.0%) are less than a pixel wide or high")
