"""A data set as YOLO's text files: ``data.yaml``, ``images/train/``, ``labels/train/``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from hatdet.data.coco_entries import Category
from hatdet.data.folders.dataset import Picture
from hatdet.data.folders.writers.pictures import bring, split_folders, unique_names
from hatdet.data.report import Report

DIGITS = 9
"""After the point: less than 1e-5 pixels in a picture of 10 000."""


def write_yolo(
    folder: Path, pictures: Sequence[Picture], classes: Sequence[Category], way: str, report: Report
) -> int:
    """Write labels and pictures into a folder. Crowds have no line in YOLO and are left out.

    Returns:
        the number of boxes that have one.
    """
    boxes = 0
    file_names = unique_names(pictures, False, True, report)
    splits = split_folders(pictures, report)
    for split, positions in splits.items():
        for picture, name in ((pictures[i], file_names[i]) for i in positions):
            bring(picture, folder / "images" / split / name, way)
            labels = (folder / "labels" / split / name).with_suffix(".txt")
            labels.parent.mkdir(parents=True, exist_ok=True)
            lines = _lines(picture, report)
            labels.write_text("".join(lines), encoding="ascii")
            boxes += len(lines)
    setup = [f"{split}: images/{split}\n" for split in splits]
    names = [json.dumps(one.name, ensure_ascii=False) for one in classes]  # a JSON string is one of YAML
    setup += ["names:\n", *(f"  {label}: {name}\n" for label, name in enumerate(names))]
    (folder / "data.yaml").write_text("".join(setup), encoding="utf-8")
    return boxes


def _lines(picture: Picture, report: Report) -> list[str]:
    lines = []
    for box in picture.boxes:
        if box.iscrowd:
            report.add("crowd or difficult object: YOLO has none, left out", f"{picture}: {box.name}")
            continue
        x, y, width, height = box.bbox
        shares = (
            (x + width / 2) / picture.width, (y + height / 2) / picture.height,
            width / picture.width, height / picture.height,
        )  # fmt: skip
        lines.append(" ".join([str(box.label), *(_decimal(share) for share in shares)]) + "\n")
    twice = len(lines) - len(set(lines))
    if twice:
        report.add("the same box of the same class twice in a picture, written once", str(picture), twice)
    return list(dict.fromkeys(lines))


def _decimal(share: float) -> str:
    return f"{share:.{DIGITS}f}".rstrip("0").rstrip(".")
