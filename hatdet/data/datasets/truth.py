"""Ground truth and counts of a packed set, read from its annotation records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from hatdet.data.packers.store.lmdb_format import Store


def coco_dict(
    store: Store,
    positions: Iterable[int],
    classes: Sequence[str],
    category_ids: Sequence[int],
    relabel: np.ndarray | None,
) -> dict[str, Any]:
    """A COCO dict of these images: ``images``, ``annotations`` (numbered from 1) and ``categories``."""
    source_ids = store.source_ids()
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for position in map(int, positions):
        picture = store.picture(position)
        image_id, (height, width) = picture.id, picture.full
        image: dict[str, Any] = {
            "id": image_id,
            "file_name": picture.file_name,
            "width": width,
            "height": height,
        }
        if source_ids is not None:
            image["source_id"] = source_ids[position]
        images.append(image)
        record = store.boxes(position)
        labels = record.labels if relabel is None else relabel[record.labels]
        rows = zip(labels.tolist(), record.bbox.tolist(), record.area.tolist(), record.iscrowd.tolist())
        for label, bbox, area, iscrowd in rows:
            if label >= 0:
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": image_id,
                        "category_id": category_ids[label],
                        "bbox": bbox,
                        "area": area,
                        "iscrowd": int(iscrowd),
                    }
                )
    categories = [{"id": i, "name": name, "supercategory": ""} for i, name in zip(category_ids, classes)]
    return {"info": {}, "images": images, "annotations": annotations, "categories": categories}


def class_counts(
    store: Store, positions: Iterable[int], num_classes: int, relabel: np.ndarray | None
) -> tuple[np.ndarray, int]:
    """Boxes by label (crowds not counted), and the number of crowds."""
    counts = np.zeros(num_classes, np.int64)
    crowds = 0
    for position in map(int, positions):
        record = store.boxes(position)
        labels = record.labels if relabel is None else relabel[record.labels]
        crowds += int((record.iscrowd & (labels >= 0)).sum())
        counts += np.bincount(labels[~record.iscrowd & (labels >= 0)], minlength=num_classes)
    return counts, crowds


def summary(
    store: Store,
    positions: Sequence[int] | np.ndarray,
    classes: Sequence[str],
    relabel: np.ndarray | None,
    dropped: dict[str, int],
) -> str:
    """Lines on what is used, what was left out and why, and the packer's warnings."""
    counts, crowds = class_counts(store, positions, len(classes), relabel)
    by_class = ", ".join(f"{repr(name)[1:-1]} {count}" for name, count in zip(classes, counts))
    lines = [f"{store.path}: {len(positions)} images, {counts.sum()} boxes, {len(classes)} classes: {by_class}"]
    if crowds:
        lines.append(f"  {crowds} crowd boxes: not learned, ignored in evaluation")
    left_out = [f"{count} {reason}" for reason, count in dropped.items() if count]
    if left_out:
        lines.append(f"  images left out: {', '.join(left_out)}")
    lines += [f"  warning: {warning}" for warning in store.header["warnings"]]
    return "\n".join(lines)
