"""A small COCO data set for the tests that run whole commands."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

CONFIG = "configs/rtmdet/rtmdet_nano_8xb32_300e_coco_ncadc_relu6.py"


def mini_coco(root: Path, count: int = 14) -> Path:
    """Pictures of circles and rectangles on noise, of odd sizes, one of them without any object."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        (root / f"{split}2017").mkdir(parents=True)
        (root / "annotations").mkdir(exist_ok=True)
        images, boxes = [], []
        for number in range(count):
            h, w = int(rng.integers(60, 100)), int(rng.integers(70, 120))
            picture = rng.integers(0, 60, (h, w, 3)).astype(np.uint8)
            for _ in range(0 if number == 3 else int(rng.integers(1, 4))):
                side, label = int(rng.integers(14, 40)), int(rng.integers(2))
                x, y = int(rng.integers(0, w - side)), int(rng.integers(0, h - side))
                middle = (x + side // 2, y + side // 2)
                if label:
                    cv2.circle(picture, middle, side // 2, (40, 220, 90), -1)
                else:
                    cv2.rectangle(picture, (x, y), (x + side, y + side), (200, 60, 230), -1)
                box = [float(x), float(y), float(side), float(side)]
                boxes.append({"id": len(boxes) + 1, "image_id": number + 1, "category_id": 3 + 4 * label})
                boxes[-1] |= {"bbox": box, "area": float(side * side), "iscrowd": 0}
            cv2.imwrite(str(root / f"{split}2017" / f"{number}.png"), picture)
            images.append({"id": number + 1, "file_name": f"{number}.png", "height": h, "width": w})
        categories = [{"id": 3, "name": "square"}, {"id": 7, "name": "disc"}]
        content = {"images": images, "annotations": boxes, "categories": categories}
        (root / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(content))
    return root
