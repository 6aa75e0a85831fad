"""Small data sets with known results."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest


class StubDataset:
    """The part of a data set that the metric uses."""

    def __init__(self, annotations: dict[str, Any], category_ids: tuple[int, ...]) -> None:
        self.annotations = annotations
        self.category_ids = category_ids

    def coco_annotations(self) -> dict[str, Any]:
        return self.annotations


def box(image: int, category: int, xywh: tuple[float, float, float, float], crowd: int = 0) -> dict[str, Any]:
    return {
        "id": 0,  # renumbered by the metric: pycocotools would lose the match
        "image_id": image,
        "category_id": category,
        "bbox": list(xywh),
        "area": xywh[2] * xywh[3],
        "iscrowd": crowd,
    }


def coco(annotations: list[dict[str, Any]], images: tuple[int, ...] = (11, 4)) -> dict[str, Any]:
    return {
        "images": [{"id": i, "width": 320, "height": 240, "file_name": f"{i}.jpg"} for i in images],
        "annotations": annotations,
        "categories": [{"id": 7, "name": "cup"}, {"id": 3, "name": "key"}],
    }


@pytest.fixture
def two_images() -> StubDataset:
    """Image 11: a medium cup and a medium key; image 4: a large cup. Labels: cup 0 (id 7), key 1 (id 3)."""
    annotations = [
        box(11, 7, (10, 10, 50, 50)),
        box(11, 3, (100, 100, 40, 60)),
        box(4, 7, (20, 30, 200, 100)),
    ]
    return StubDataset(coco(annotations), (7, 3))


@pytest.fixture
def random_data() -> tuple[dict[str, Any], list[dict[str, Any]], list[int]]:
    """30 images of 3 classes with crowds, tied scores, all sizes: ground truth, predictions, image ids."""
    rng = np.random.default_rng(5)
    images = tuple(int(i) for i in rng.permutation(np.arange(30) * 7 + 2))
    annotations, predictions = [], []
    for image in images:
        rows = []
        for _ in range(int(rng.integers(0, 7))):
            wh = np.exp(rng.uniform(np.log(6), np.log(180), 2))
            xy = rng.uniform(0, 120, 2)
            label = int(rng.integers(0, 3))
            crowd = int(rng.random() < 0.1)
            annotations.append(box(image, (9, 1, 40)[label], (*xy.tolist(), *wh.tolist()), crowd))
            for _ in range(2):
                jitter = rng.normal(0, 0.08, 4) * np.concatenate([wh, wh])
                rows.append([*(np.concatenate([xy, xy + wh]) + jitter), rng.integers(0, 20) / 20, label])
        for _ in range(int(rng.integers(0, 12))):
            xy = rng.uniform(0, 150, 2)
            rows.append([*xy, *(xy + rng.uniform(5, 90, 2)), rng.integers(0, 20) / 20, int(rng.integers(0, 3))])
        table = np.array(rows, np.float32).reshape(-1, 6)
        predictions.append({"boxes": table[:, :4], "scores": table[:, 4], "labels": table[:, 5].astype(int)})
    truth = {
        "images": [{"id": i, "width": 320, "height": 240, "file_name": f"{i}.jpg"} for i in images],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "b"}, {"id": 9, "name": "a"}, {"id": 40, "name": "c"}],
    }
    return truth, predictions, list(images)
