"""A data set as COCO jsons: ``annotations/instances_train.json`` and ``train/``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hatdet.data.coco_entries import Category
from hatdet.data.folders.dataset import Picture
from hatdet.data.folders.writers.pictures import bring, split_folders, unique_names
from hatdet.data.report import Report


def coco_content(pictures: Sequence[Picture], names: Sequence[str], classes: Sequence[Category]) -> dict[str, Any]:
    """What a json says of pictures, under these names. Ids of pictures are kept where all have one."""
    ids = [picture.id for picture in pictures]
    if not all(isinstance(number, int) for number in ids) or len(set(ids)) != len(ids):
        ids = list(range(1, len(pictures) + 1))
    images = [
        {"id": number, "file_name": name, "width": picture.width, "height": picture.height}
        for number, name, picture in zip(ids, names, pictures)
    ]
    annotations: list[dict[str, Any]] = []
    for number, picture in zip(ids, pictures):
        for box in picture.boxes:
            annotations.append({
                "id": len(annotations) + 1, "image_id": number, "category_id": classes[box.label].id,
                "bbox": [_plain(value) for value in box.bbox], "area": _plain(box.area), "iscrowd": int(box.iscrowd),
            })  # fmt: skip
    categories = [{"id": one.id, "name": one.name, "supercategory": one.supercategory} for one in classes]
    return {"images": images, "annotations": annotations, "categories": categories}


def _plain(value: float) -> int | float:
    return int(value) if float(value).is_integer() else value


def write_coco(
    folder: Path, pictures: Sequence[Picture], classes: Sequence[Category], way: str, report: Report
) -> int:
    """Write jsons and pictures into a folder; gives the number of boxes."""
    names = unique_names(pictures, False, True, report)
    (folder / "annotations").mkdir()
    for split, positions in split_folders(pictures, report).items():
        chosen, own = [pictures[i] for i in positions], [names[i] for i in positions]
        file = folder / "annotations" / f"instances_{split}.json"
        file.write_text(json.dumps(coco_content(chosen, own, classes)), encoding="utf-8")
        for picture, name in zip(chosen, own):
            bring(picture, folder / split / name, way)
    return sum(len(picture.boxes) for picture in pictures)
