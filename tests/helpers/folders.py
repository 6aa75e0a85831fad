"""Small data sets in each format, written as the tools that export them do."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

COCO_DEFAULTS = {
    split: {"ann_file": f"annotations/instances_{split}2017.json", "img_prefix": f"{split}2017/"}
    for split in ("train", "val")
}
"""What a config says of a data set that names nothing."""


def write_picture(path: Path, seed: int, width: int = 64, height: int = 48) -> None:
    """A picture like no other of another seed."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 6, 3)).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    encoded = cv2.imencode(path.suffix, cv2.resize(coarse, (width, height)))[1]
    path.write_bytes(encoded.tobytes())  # imwrite fails on some names


def write_yolo(root: Path, train: int = 4, val: int = 2) -> Path:
    """``images/train``, ``labels/train``, ``data.yaml``; picture i has the box 8 6 16 12 + i of class i % 2."""
    number = 0
    for split, count in (("train", train), ("val", val)):
        for _ in range(count):
            write_picture(root / "images" / split / f"{number}.png", number)
            box = f"{(8 + number + 8) / 64} {(6 + 6) / 48} {16 / 64} {12 / 48}"
            labels = root / "labels" / split / f"{number}.txt"
            labels.parent.mkdir(parents=True, exist_ok=True)
            labels.write_text(f"{number % 2} {box}\n")
            number += 1
    (root / "data.yaml").write_text("path: .\ntrain: images/train\nval: images/val\nnames: {0: cat, 1: dog}\n")
    return root


def voc_xml(objects: list[tuple[str, int, int, int, int]], name: str = "x.jpg") -> str:
    """An annotation; ``objects`` are (name, xmin, ymin, xmax, ymax)."""
    parts = [
        f"<object><name>{label}</name><difficult>0</difficult><bndbox><xmin>{a}</xmin><ymin>{b}</ymin>"
        f"<xmax>{c}</xmax><ymax>{d}</ymax></bndbox></object>"
        for label, a, b, c, d in objects
    ]
    return (
        f"<annotation><filename>{name}</filename><size><width>64</width><height>48</height><depth>3</depth></size>{''.join(parts)}</annotation>"
    )


def write_voc(root: Path) -> Path:
    """VOC's folders: a, b in train, c in val; a box from pixel 1 to 10 by 2 to 21 in each."""
    for number, name in enumerate("abc"):
        write_picture(root / "JPEGImages" / f"{name}.jpg", number)
        file = root / "Annotations" / f"{name}.xml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(voc_xml([("dog" if number else "cat", 1, 2, 10, 21)], f"{name}.jpg"))
    lists = root / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("a\nb\n")
    (lists / "val.txt").write_text("c\n")
    return root
