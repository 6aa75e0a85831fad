"""A small COCO set with every oddity that is legal: odd sizes, an image without boxes, a crowd."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from hatdet.data.packers.mscoco import pack_coco

SIZES = [(37, 53), (60, 41), (33, 33), (48, 64), (21, 90), (55, 30), (64, 64), (40, 71), (29, 31)]  # (h, w)
CATEGORIES = [
    {"id": 7, "name": "dot", "supercategory": "shape"},
    {"id": 3, "name": "bar", "supercategory": "shape"},
    {"id": 90, "name": "box", "supercategory": "shape"},
]


def make_image(height: int, width: int, seed: int) -> np.ndarray:
    """A smooth random picture with some noise, BGR."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (5, 5, 3)).astype(np.uint8)
    noise = rng.integers(0, 20, (height, width, 3)).astype(np.uint8)
    return cv2.add(cv2.resize(coarse, (width, height)), noise)


def write_coco(root: Path) -> dict[str, Any]:
    """Write ``root/train`` and ``root/annotations/instances_train.json``; image 3 (id 103) has no boxes."""
    (root / "train").mkdir(parents=True)
    (root / "annotations").mkdir()
    content: dict[str, Any] = {"images": [], "annotations": [], "categories": CATEGORIES}
    for number, (height, width) in enumerate(SIZES):
        name = f"{number:02d}.png"
        cv2.imwrite(str(root / "train" / name), make_image(height, width, number))
        content["images"].append({"id": 100 + number, "file_name": name, "width": width, "height": height})
        boxes = [] if number == 3 else [[2, 3, 10, 12], [width - 12.5, height - 9.25, 12.5, 9.25]]
        for box, category in zip(boxes, (7, 90), strict=False):
            content["annotations"].append(annotation(content, 100 + number, category, box))
    crowd = annotation(content, 100, 3, [0, 0, 30, 30])
    crowd["iscrowd"] = 1
    content["annotations"].append(crowd)
    (root / "annotations" / "instances_train.json").write_text(json.dumps(content))
    return content


def annotation(content: dict[str, Any], image_id: int, category_id: int, box: list[float]) -> dict[str, Any]:
    return {
        "id": len(content["annotations"]),  # from 0: legal
        "image_id": image_id,
        "category_id": category_id,
        "bbox": box,
        "area": box[2] * box[3],
        "iscrowd": 0,
    }


@pytest.fixture
def coco_root(tmp_path: Path) -> Path:
    """A fresh copy of the small set."""
    write_coco(tmp_path / "set")
    return tmp_path / "set"


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small set, packed; not to be changed."""
    root = tmp_path_factory.mktemp("packed")
    write_coco(root)
    pack_coco(
        root / "annotations" / "instances_train.json", root / "train", root / "train_lmdb", num_workers=0, quiet=True
    )
    return root / "train_lmdb"
