"""Boxes of many images in flat arrays: the common form of ground truth and detections."""

from __future__ import annotations

import json
import logging
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hatdet.utils.class_names import find, listed, placeholders, quoted
from hatdet.utils.errors import UserError

logger = logging.getLogger("hatdet")


@dataclass(frozen=True)
class Boxes:
    """n boxes of any number of images.

    image_ids, labels: (n,) int64; boxes: (n, 4) float64 xyxy in file pixels; scores: (n,) float64 (1 for
    ground truth); crowd: (n,) bool: regions that neither count as objects nor make a detection wrong.
    """

    image_ids: NDArray[np.int64]
    labels: NDArray[np.int64]
    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    crowd: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.labels)

    def of_image(self, image_id: int) -> Boxes:
        """The boxes of one image."""
        return self.select(self.image_ids == image_id)

    def select(self, mask: NDArray[Any]) -> Boxes:
        """The boxes where `mask` (boolean or indices) says so."""
        return Boxes(
            image_ids=self.image_ids[mask], labels=self.labels[mask], boxes=self.boxes[mask],
            scores=self.scores[mask], crowd=self.crowd[mask],
        )  # fmt: skip


def from_coco(source: Mapping[str, Any], category_ids: Sequence[int]) -> Boxes:
    """Annotations of a COCO dict, or results in COCO's result format under `annotations`.

    Annotations of a category outside `category_ids` are left out.
    """
    label_of = {int(c): label for label, c in enumerate(category_ids)}
    kept = [a for a in source["annotations"] if int(a["category_id"]) in label_of]
    xywh = np.array([a["bbox"] for a in kept], np.float64).reshape(-1, 4)
    return Boxes(
        image_ids=np.array([int(a["image_id"]) for a in kept], np.int64),
        labels=np.array([label_of[int(a["category_id"])] for a in kept], np.int64),
        boxes=np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1),
        scores=np.array([float(a.get("score", 1.0)) for a in kept], np.float64),
        crowd=np.array([is_crowd(a) for a in kept], bool),
    )


def is_crowd(annotation: Mapping[str, Any]) -> bool:
    """Whether a box is a region that neither counts nor makes a detection wrong; the flags may be written as text."""
    flags = (annotation.get(key) for key in ("iscrowd", "ignore"))
    return any(flag == 1 or str(flag).strip().lower() in ("1", "true") for flag in flags)


def _whole(value: Any, digits: bool = True) -> int | None:
    """A whole number, with ``digits`` also one written as text, as the data sets read ids; None for all else."""
    if digits and isinstance(value, str) and re.fullmatch(r"\s*-?[0-9]{1,16}\s*", value):
        return int(value)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return int(value) if number and value % 1 == 0 else None


def _is_usable(annotation: Any) -> bool:
    if not isinstance(annotation, dict) or _whole(annotation.get("image_id"), digits=False) is None:
        return False
    box = annotation.get("bbox")
    try:
        boxed = isinstance(box, list) and len(box) == 4 and all(math.isfinite(float(value)) for value in box)
    except (TypeError, ValueError, OverflowError):
        return False
    return boxed and _whole(annotation.get("category_id")) is not None


def read_coco(path: str | Path) -> dict[str, Any]:
    """Read a COCO annotation file; annotations that the data sets leave out as unreadable are left out and counted.

    Raises:
        UserError: not there, not JSON, without images, annotations and categories, or without ids to score by.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"annotation file not found: {path}; name a COCO json that is there, or give the metric none "
            "(ann_file=None): it takes the ground truth from the data set then"
        ) from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON: {error}; name a COCO json, or export it again") from None
    lists = ("images", "annotations", "categories")
    if not isinstance(content, dict) or not all(isinstance(content.get(key), list) for key in lists):
        raise UserError(
            f"{path} is no COCO annotation file: it needs images, annotations and categories; "
            "name another file"
        )
    for key, digits in (("images", False), ("categories", True)):
        for entry in content[key]:
            if not isinstance(entry, dict) or _whole(entry.get("id"), digits) is None:
                raise UserError(
                    f"{path} cannot be scored by: an id in {key!r} is no whole number ({str(entry)[:80]}); leave "
                    "ann_file out of the metric: it takes the ground truth from the data set then"
                )
    for category in content["categories"]:
        category["id"] = _whole(category["id"])
        category["name"] = category.get("name") or f"category_{category['id']}"
    usable = [annotation for annotation in content["annotations"] if _is_usable(annotation)]
    for annotation in usable:
        annotation["category_id"] = _whole(annotation["category_id"])
    if len(usable) < len(content["annotations"]):
        lost = len(content["annotations"]) - len(usable)
        logger.warning("%s: %d annotations without usable numbers are not scored", path, lost)
    return {**content, "annotations": usable}


def drop_placeholders(source: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out a category that is no class, as the data sets do (:func:`hatdet.utils.class_names.placeholders`)."""
    rows = [(c["id"], str(c["name"]), str(c.get("supercategory") or "")) for c in source["categories"]]
    dropped = placeholders(rows, (a["category_id"] for a in source["annotations"]))
    return {**source, "categories": [c for c in source["categories"] if c["id"] not in dropped]}


def ids_by_name(source: Mapping[str, Any], names: Sequence[str], path: Path) -> tuple[dict[str, Any], list[int]]:
    """The categories of an annotation file in the order of a data set's class names.

    Returns:
        the file's content, with a category (without boxes) for each name that it does not list; and the ids by label.

    Raises:
        UserError: the file has boxes of a class that the data set does not know, while it lacks one of the data set's.
    """
    own = {str(c["name"]): int(c["id"]) for c in source["categories"]}
    places = find(list(own), names)
    id_of = {place: own[name] for name, place in zip(own, places, strict=True) if place is not None}
    absent = [name for label, name in enumerate(names) if label not in id_of]
    used = {int(a["category_id"]) for a in source["annotations"]}
    strange = [name for name, place in zip(own, places, strict=True) if place is None and own[name] in used]
    if absent and (strange or len(absent) == len(names)):
        raise UserError(
            f"{path} has the classes {listed(list(own))}; the validation data has {listed(names)}: {quoted(absent)} "
            "would have no ground truth; give both the same names"
        )
    new = {name: max([*own.values(), 0]) + number for number, name in enumerate(absent, start=1)}
    id_of |= {label: new[name] for label, name in enumerate(names) if label not in id_of}
    categories = [*source["categories"], *({"id": i, "name": name} for name, i in new.items())]
    return {**source, "categories": categories}, [id_of[label] for label in range(len(names))]


def _is_area(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < float("inf")


def clean_truth(source: Mapping[str, Any], category_ids: Sequence[int]) -> dict[str, Any]:
    """A COCO dict with only what an evaluation reads, of only these categories.

    Annotations are numbered from 1 (pycocotools takes a match with the id 0 for none); equal class names get
    their category id appended, so that every class keeps its own row.
    """
    images = [int(image["id"]) for image in source["images"]]
    known_images, known_categories = set(images), set(category_ids)
    annotations: list[dict[str, Any]] = []
    for a in source["annotations"]:
        if int(a["image_id"]) not in known_images or int(a["category_id"]) not in known_categories:
            continue
        box = [float(v) for v in a["bbox"]]
        annotations.append(
            {
                "id": len(annotations) + 1,
                "image_id": int(a["image_id"]),
                "category_id": int(a["category_id"]),
                "bbox": box,
                "area": float(area) if _is_area(area := a.get("area")) else box[2] * box[3],
                "iscrowd": int(is_crowd(a)),
            }
        )
    categories = [(int(c["id"]), str(c["name"])) for c in source["categories"] if int(c["id"]) in known_categories]
    names = Counter(name for _, name in categories)
    return {
        "info": {},
        "images": [
            {
                "id": image_id,
                "width": _whole(image.get("width")) or 0,
                "height": _whole(image.get("height")) or 0,
                "file_name": str(image.get("file_name", "")),
            }
            for image_id, image in zip(images, source["images"], strict=True)
        ],
        "annotations": annotations,
        "categories": [{"id": i, "name": n if names[n] == 1 else f"{n} ({i})"} for i, n in categories],
    }
