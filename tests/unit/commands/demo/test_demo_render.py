from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from hatdet.commands.demo.objects import KINDS
from hatdet.commands.demo.render import Instance, _instances, render_dataset, render_scene


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("size", [20, 97])
def test_sprites_fill_their_patch(kind: object, size: int) -> None:
    sprite = kind.paint(np.random.default_rng(3), size, 0.5)  # type: ignore[attr-defined]
    assert sprite.color.shape == (size, size, 3) and sprite.alpha.shape == (size, size)
    assert sprite.color.min() >= 0 and sprite.color.max() <= 255
    assert sprite.alpha.max() == pytest.approx(1) and 0.2 < (sprite.alpha > 0.5).mean() < 0.95
    rows, columns = np.nonzero(sprite.alpha > 0.5)
    assert np.ptp(rows) > 0.7 * size and np.ptp(columns) > 0.7 * size


def test_boxes_are_those_of_the_visible_pixels() -> None:
    owner = np.full((20, 30), -1, np.int16)
    owner[5:15, 10:20] = 0
    owner[5:15, 16:20] = 1  # hides the right part of the first object
    assert _instances(owner, [2, 3], [100, 40]) == [Instance(2, (10, 5, 6, 10), 60), Instance(3, (16, 5, 4, 10), 40)]
    assert _instances(owner, [2, 3], [200, 40]) == [Instance(3, (16, 5, 4, 10), 40)]  # 60 of 200 is too little


def test_scenes_depend_on_the_seed_alone() -> None:
    first, boxes = render_scene(np.random.default_rng(7), 239, 317)
    again, same = render_scene(np.random.default_rng(7), 239, 317)
    other, _ = render_scene(np.random.default_rng(8), 239, 317)
    assert first.shape == (239, 317, 3) and first.dtype == np.uint8
    np.testing.assert_array_equal(first, again)
    assert boxes == same and (first != other).mean() > 0.5


def test_dataset_is_valid_coco(tmp_path: Path) -> None:
    counts = render_dataset(tmp_path, train=6, val=3, seed=1)
    content = json.loads((tmp_path / "annotations/instances_train2017.json").read_text())
    validation = json.loads((tmp_path / "annotations/instances_val2017.json").read_text())
    assert len(content["images"]) == 6 and len(validation["images"]) == 3
    assert [c["id"] for c in content["categories"]] == [17, 3, 8, 42]
    assert counts == {"train": len(content["annotations"]), "val": len(validation["annotations"])}
    sizes = {}
    for image in content["images"]:
        picture = cv2.imread(str(tmp_path / "train2017" / image["file_name"]))
        assert picture.shape[:2] == (image["height"], image["width"])
        sizes[image["id"]] = (image["width"], image["height"])
    assert min(sizes) > 0 and not set(sizes) & {image["id"] for image in validation["images"]}
    for annotation in content["annotations"]:
        x, y, w, h = annotation["bbox"]
        width, height = sizes[annotation["image_id"]]
        assert x >= 0 and y >= 0 and w > 0 and h > 0 and x + w <= width and y + h <= height
        assert 40 <= annotation["area"] <= w * h
