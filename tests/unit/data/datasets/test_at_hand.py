"""Pictures counted before anything is packed: as many as the packed data set has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hatdet.data.datasets.at_hand import pictures_at_hand
from hatdet.data.datasets.coco import CocoDataset
from tests.helpers.folders import write_yolo
from tests.integration.mini_coco import mini_coco

PLACE = {"ann_file": "annotations/instances_train2017.json", "img_prefix": "train2017/"}


@pytest.mark.parametrize(
    ("more", "count"),
    [({}, 3), ({"filter_empty": False}, 5), ({"classes": ("disc",)}, 2), ({"classes": ("square", "disc")}, 3)],
)
def test_of_a_coco_set(tmp_path: Path, more: dict[str, Any], count: int) -> None:
    """Five pictures: the first two have discs, the third a square, the fourth nothing, the fifth a crowd."""
    root = mini_coco(tmp_path / "data", count=5)
    file = root / PLACE["ann_file"]
    content = json.loads(file.read_text())
    boxes = [(1, 7, 0), (1, 3, 0), (2, 7, 0), (3, 3, 0), (5, 3, 1)]
    content["annotations"] = [
        {"id": n, "image_id": image, "category_id": category, "bbox": [2, 3, 20, 10], "area": 200, "iscrowd": crowd}
        for n, (image, category, crowd) in enumerate(boxes)
    ]
    file.write_text(json.dumps(content))
    assert pictures_at_hand(root, **PLACE, **more) == count  # type: ignore[arg-type]
    assert not list(root.rglob("*_lmdb"))
    dataset = CocoDataset(root, **PLACE, transforms=[], **more)  # type: ignore[arg-type]
    assert len(dataset) == count
    file.with_name("other.json").write_text("{}")  # the packed copy is what is looked at now
    assert pictures_at_hand(root, **PLACE, **more) == count  # type: ignore[arg-type]


def test_of_a_yolo_folder(tmp_path: Path) -> None:
    root = write_yolo(tmp_path / "yolo")
    assert pictures_at_hand(root, **PLACE) == 4  # type: ignore[arg-type]
    assert not list(root.rglob(".hatdet_cache"))
    assert len(CocoDataset(root, **PLACE, transforms=[])) == 4  # type: ignore[arg-type]
