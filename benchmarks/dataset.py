"""A data set to measure on: one that is given, or a generated one in COCO format."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class DataFolder:
    """Where the training part of a COCO-style data set lies."""

    root: Path
    ann_file: Path
    image_dir: Path

    @property
    def num_classes(self) -> int:
        return len(json.loads(self.ann_file.read_text(encoding="utf-8"))["categories"])

    def encoded_images(self, limit: int) -> list[np.ndarray]:
        """The files' bytes, as uint8 arrays, in the order of the json."""
        images = json.loads(self.ann_file.read_text(encoding="utf-8"))["images"][:limit]
        return [np.fromfile(self.image_dir / image["file_name"], np.uint8) for image in images]


def find(root: Path) -> DataFolder:
    """The training part of a COCO-style folder: ``train/`` or ``train2017/`` and its ``instances_*.json``.

    Raises:
        FileNotFoundError: the folder has another layout.
    """
    for name in ("train2017", "train"):
        ann_file = root / "annotations" / f"instances_{name}.json"
        if ann_file.is_file() and (root / name).is_dir():
            return DataFolder(root, ann_file, root / name)
    raise FileNotFoundError(
        f"{root}: no annotations/instances_train.json with train/ (nor the names with 2017)"
    )


def generate(
    root: Path, num_images: int = 96, size: tuple[int, int] = (480, 640), seed: int = 0
) -> DataFolder:
    """Write ``num_images`` JPEG files of ``size`` (h, w) with 5 to 25 ellipses each over noise."""
    import cv2

    rng = np.random.default_rng(seed)
    image_dir = root / "train"
    image_dir.mkdir(parents=True, exist_ok=True)
    (root / "annotations").mkdir(exist_ok=True)
    height, width = size
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id in range(1, num_images + 1):
        # Low-frequency colour plus fine noise: files of a photograph's size, decoding costs what it should.
        coarse = rng.integers(60, 200, (6, 8, 3), dtype=np.uint8)
        picture = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        noise = rng.integers(0, 16, picture.shape, dtype=np.uint8)
        picture = cv2.add(picture, noise)
        for _ in range(int(rng.integers(5, 26))):
            label = int(rng.integers(1, 4))
            rx, ry = (int(v) for v in rng.integers(8, 48, 2))
            x, y = int(rng.integers(rx, width - rx)), int(rng.integers(ry, height - ry))
            color = tuple(int(v) for v in rng.integers(0, 256, 3))
            cv2.ellipse(picture, (x, y), (rx, ry), 0, 0, 360, color, -1 if label == 1 else label)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": label,
                    "bbox": [x - rx, y - ry, 2 * rx, 2 * ry],
                    "area": 4 * rx * ry,
                    "iscrowd": 0,
                }
            )
        name = f"{image_id:06d}.jpg"
        cv2.imwrite(str(image_dir / name), picture, [cv2.IMWRITE_JPEG_QUALITY, 90])
        images.append({"id": image_id, "file_name": name, "height": height, "width": width})
    categories = [{"id": i, "name": f"shape{i}", "supercategory": "shape"} for i in (1, 2, 3)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    ann_file = root / "annotations" / "instances_train.json"
    ann_file.write_text(json.dumps(content), encoding="utf-8")
    return DataFolder(root, ann_file, image_dir)
