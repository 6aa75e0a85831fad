"""A strict reader for COCO detection files.

What makes the whole file doubtful (duplicate keys, wrong structure, double ids) is an error; one bad annotation
or image is left out and counted in a :class:`~hatdet.data.report.Report`. Format: https://cocodataset.org/#format-data.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hatdet.data.coco_boxes import attach_annotations
from hatdet.data.coco_categories import read_categories
from hatdet.data.coco_entries import Category, ImageEntry
from hatdet.data.coco_json import as_int, kind, object_with_id, read_json
from hatdet.data.report import Report
from hatdet.utils.errors import UserError


@dataclass
class CocoFile:
    """What a COCO json holds, checked; ``sha256`` and ``state`` are of the bytes that were parsed."""

    path: Path
    categories: list[Category]
    images: list[ImageEntry]
    num_annotations: int
    report: Report
    sha256: str
    state: list[int]
    placeholders: list[Category] = field(default_factory=list)
    """categories that are no classes in this split (:func:`hatdet.utils.class_names.placeholders`)"""


def read_coco(path: str | Path) -> CocoFile:
    """Read and check a COCO detection file.

    Raises:
        UserError: the file cannot be used as a whole; the message names file, key and id.
    """
    path = Path(path)
    source = read_json(path)
    content = source.content
    if not isinstance(content, dict):
        raise UserError(
            f"{path}: expected an object with images, annotations and categories at the top, "
            f"found {kind(content)}" + (" (a results file?)" if isinstance(content, list) else "")
        )
    lists = {key: _list(path, content, key) for key in ("images", "annotations", "categories")}
    report = Report(str(path))
    images = _images(path, lists["images"], report)
    categories, dropped = read_categories(path, lists["categories"], lists["annotations"], report)
    attach_annotations(path, lists["annotations"], images, categories, report)
    return CocoFile(
        path, categories, list(images.values()), len(lists["annotations"]), report, source.sha256, source.state, dropped
    )


def _list(path: Path, content: dict[str, Any], key: str) -> list[Any]:
    if key not in content:
        raise UserError(
            f"{path}: the key {key!r} is missing (found: {', '.join(map(repr, list(content)[:8])) or 'nothing'}); "
            "add it: a COCO file has images, annotations and categories"
        )
    if not isinstance(content[key], list):
        raise UserError(f"{path}: {key!r} must be a list, found {kind(content[key])}")
    return content[key]  # type: ignore[no-any-return]


# ---------------------------------------------------------------------------------------------- images
def _images(path: Path, entries: list[Any], report: Report) -> dict[int | str, ImageEntry]:
    images: dict[int | str, ImageEntry] = {}
    if not entries:
        raise UserError(f"{path}: 'images' is empty: there are no images; name another file, or add them")
    for position, item in enumerate(entries):
        where = f"images[{position}]"
        entry = object_with_id(path, item, where, "file_name", "image")
        image_id = as_int(entry["id"])
        if image_id is None and not isinstance(entry["id"], str):
            raise UserError(f"{path}: {where}: 'id' must be a whole number or a string, got {entry['id']!r}")
        key: int | str = entry["id"] if image_id is None else image_id
        name = entry.get("file_name")
        if key in images:
            raise UserError(
                f"{path}: two images have the id {key!r}: {images[key].file_name!r} and {name!r}; "
                "give every image its own id"
            )
        images[key] = ImageEntry(key, "", 0, 0)  # also where it is skipped: its boxes are no strangers
        if not isinstance(name, str) or not name:
            what = "is missing" if name is None else f"is {name!r}"
            report.add("image without a usable 'file_name', skipped", f"image id {key!r}: file_name {what}")
            continue
        images[key].file_name = name
        for side in ("width", "height"):
            setattr(images[key], side, _side(entry, side, f"image id {key!r} ({name!r})", report))
    return images


def _side(entry: dict[str, Any], side: str, where: str, report: Report) -> int:
    value = entry.get(side)
    if isinstance(value, str) and re.fullmatch(r"\s*[0-9]{1,6}\s*", value):
        report.add("image size given as a string, converted", f"{where}: {side} {value!r}")
        return int(value)
    number = as_int(value)
    if number is None or number < 1:
        report.add("image size missing or wrong, read from the image instead", f"{where}: {side} {value!r}")
        return 0
    return number
