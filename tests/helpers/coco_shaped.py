"""A data set with the shape of COCO 2017: its folders and file names, 80 classes whose ids have COCO's gaps, crowds.

python -m tests.helpers.coco_shaped FOLDER --train 400 --val 80

Ten colours times eight forms on grey noise; a picture has one to six objects.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

GAPS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
"""Ids between 1 and 90 that COCO's detection labels do not have."""
IDS = tuple(number for number in range(1, 91) if number not in GAPS)
FORMS = ("square", "disc", "triangle", "diamond", "cross", "ring", "bar", "frame")
COLOURS = {
    "red": (40, 40, 220), "green": (60, 200, 60), "blue": (220, 80, 40), "yellow": (40, 220, 230),
    "magenta": (210, 50, 210), "cyan": (220, 220, 50), "orange": (30, 140, 250), "white": (250, 250, 250),
    "black": (10, 10, 10), "brown": (40, 70, 120),
}  # fmt: skip
NAMES = tuple(f"{colour} {form}" for colour in COLOURS for form in FORMS)


def draw(picture: NDArray[np.uint8], label: int, x: int, y: int, side: int) -> None:
    """One object whose box is (x, y, side, side)."""
    colour, form = list(COLOURS.values())[label // len(FORMS)], FORMS[label % len(FORMS)]
    end, half, thick = side - 1, side // 2, max(2, side // 5)
    corners = {
        "square": [(0, 0), (end, 0), (end, end), (0, end)],
        "triangle": [(half, 0), (end, end), (0, end)],
        "diamond": [(half, 0), (end, half), (half, end), (0, half)],
    }
    if form in corners:
        cv2.fillPoly(picture, [np.array(corners[form], np.int32) + (x, y)], colour)
    elif form in ("disc", "ring"):
        cv2.ellipse(picture, ((x + end / 2, y + end / 2), (end, end), 0), colour, -1)
        if form == "ring":
            cv2.ellipse(
                picture, ((x + end / 2, y + end / 2), (end - 2 * thick, end - 2 * thick), 0), (128, 128, 128), -1
            )
    elif form == "frame":
        picture[y : y + side, x : x + side] = colour
        picture[y + thick : y + side - thick, x + thick : x + side - thick] = 128
    else:
        along = slice(y + half - thick // 2, y + half + thick // 2 + 1)
        picture[along, x : x + side] = colour
        across = slice(x + half - thick // 2, x + half + thick // 2 + 1)
        picture[y : y + side, across if form == "cross" else slice(x, x + thick)] = colour


def coco_shaped(root: Path, train: int, val: int, size: tuple[int, int] = (160, 120), objects: int = 6) -> Path:
    """Write the data set; the same numbers give the same files.

    Args:
        size: width and height of the pictures, some of which stand upright.
        objects: at most so many in a picture.
    """
    for split, count, seed in (("train", train, 1), ("val", val, 2)):
        rng = np.random.default_rng(seed)
        folder = root / f"{split}2017"
        folder.mkdir(parents=True)
        (root / "annotations").mkdir(exist_ok=True)
        images, boxes = [], []
        for number in range(count):
            w, h = size if number % 4 else size[::-1]
            picture = rng.integers(100, 156, (h, w, 3)).astype(np.uint8)
            image = 1000 * seed + 7 * number  # ids that are neither dense nor from 0
            for _ in range(int(rng.integers(1, objects + 1))):
                label, side = int(rng.integers(len(NAMES))), int(rng.integers(min(size) // 6, min(size) // 2))
                x, y = int(rng.integers(0, w - side)), int(rng.integers(0, h - side))
                draw(picture, label, x, y, side)
                crowd = int(rng.random() < 0.02)
                boxes.append({"id": len(boxes) + 1, "image_id": image, "category_id": IDS[label], "iscrowd": crowd})
                boxes[-1] |= {"bbox": [x, y, side, side], "area": side * side, "segmentation": []}
            name = f"{image:012d}.jpg"
            cv2.imwrite(str(folder / name), picture)
            images.append({"id": image, "file_name": name, "height": h, "width": w})
        categories = [
            {"id": id, "name": name, "supercategory": name.split()[1]} for id, name in zip(IDS, NAMES, strict=True)
        ]
        content = {"images": images, "annotations": boxes, "categories": categories}
        (root / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(content))
    return root


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--train", type=int, default=400)
    parser.add_argument("--val", type=int, default=80)
    given = parser.parse_args()
    coco_shaped(given.folder, given.train, given.val)
