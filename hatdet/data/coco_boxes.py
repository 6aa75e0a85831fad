"""The annotations of a COCO json: which are boxes, and of which image."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from hatdet.data.coco_categories import category_id_of
from hatdet.data.coco_entries import MAX_COORDINATE, Annotation, Category, ImageEntry
from hatdet.data.coco_json import as_int, kind
from hatdet.data.report import Report
from hatdet.utils.errors import UserError

_FLAGS = {"0": 0, "1": 1, "false": 0, "true": 1}


def attach_annotations(
    path: Path,
    entries: list[Any],
    images: dict[int | str, ImageEntry],
    categories: list[Category],
    report: Report,
) -> None:
    """Give every usable annotation to its image; what is left out is counted in ``report``.

    Raises:
        UserError: none can be used, or all look normalised.
    """
    labels = {category.id: label for label, category in enumerate(categories)}
    ids: set[Any] = set()
    matched = kept = crowds = 0
    normalised = True
    for position, entry in enumerate(entries):
        if not isinstance(entry, dict):
            report.add("annotation is not an object, skipped", f"annotations[{position}] is {kind(entry)}")
            continue
        where = _annotation_name(entry, position, ids, report)
        image = _image_of(entry, images, where, report)
        if image is None:
            continue
        matched += 1
        annotation = _annotation(entry, where, labels, report)
        if annotation is None:
            continue
        image.annotations.append(annotation)
        kept += not annotation.iscrowd
        crowds += annotation.iscrowd
        normalised = normalised and max(annotation.bbox) <= 1.0
    if entries and not matched:
        example = next((e.get("image_id") for e in entries if isinstance(e, dict)), None)
        raise UserError(
            f"{path}: no annotation matches an image: the first 'image_id' is {example!r}, "
            f"the first image 'id' is {next(iter(images))!r}; give both the same ids"
        )
    if matched and not kept + crowds:
        reasons = "".join(f"\n  {line}" for line in report.lines())
        raise UserError(f"{path}: no usable box is left in the file{reasons}; mend the boxes, or name another file")
    largest = max((max(image.width, image.height) for image in images.values()), default=0)
    if kept and normalised and largest > 8:
        raise UserError(
            f"{path}: all {kept} boxes lie within 0..1: the 'bbox' numbers look normalised; COCO wants "
            "[x, y, width, height] in pixels"
        )


def _annotation_name(entry: dict[str, Any], position: int, ids: set[Any], report: Report) -> str:
    annotation_id = entry.get("id")
    if annotation_id is None:
        report.add("annotation without an 'id', numbered anew", f"annotations[{position}]")
        return f"annotations[{position}]"
    key = annotation_id if isinstance(annotation_id, (int, float, str)) else repr(annotation_id)
    if key in ids:
        report.add("annotation 'id' used twice, numbered anew", f"id {annotation_id!r}")
    ids.add(key)
    return f"annotation id {annotation_id!r}"[:80]


def _image_of(
    entry: dict[str, Any], images: dict[int | str, ImageEntry], where: str, report: Report
) -> ImageEntry | None:
    if "image_id" not in entry:
        report.add("annotation without an 'image_id', skipped", where)
        return None
    given = entry["image_id"]
    number = as_int(given)
    key = number if number is not None else given if isinstance(given, str) else None
    image = images.get(key) if key is not None else None
    if image is None:
        report.add("annotation of an image that is not listed, skipped", f"{where}: image_id {given!r}"[:120])
    return image


def _annotation(
    entry: dict[str, Any], where: str, labels: dict[int, int], report: Report
) -> Annotation | None:
    category_id = category_id_of(entry.get("category_id"))
    label = labels.get(category_id) if category_id is not None else None
    if label is None:
        got = f"{where}: category_id {entry.get('category_id')!r}"[:120]
        report.add("annotation of a category that is not listed, skipped", got)
        return None
    bbox = parse_bbox(entry, where, report)
    if bbox is None:
        return None
    return Annotation(where, bbox, label, _area(entry, bbox, where, report), _is_crowd(entry, where, report))


def _area(entry: dict[str, Any], bbox: tuple[float, float, float, float], where: str, report: Report) -> float:
    """The object's area, which decides whether an evaluation takes it for small, medium or large; else its box's."""
    area, whole = entry.get("area"), bbox[2] * bbox[3]
    if area is None:
        return whole
    if isinstance(area, bool) or not isinstance(area, (int, float)) or not 0 < area < MAX_COORDINATE**2:
        report.add("'area' is no positive number, that of the box is taken", f"{where}: area {area!r}"[:120])
        return whole
    if area > 1.05 * whole + 8:  # more than rounding: only the evaluation by size is touched, so it stays
        report.add("'area' is larger than the box: small, medium and large objects follow it", f"{where}: area {area}")
    return float(area)


def _is_crowd(entry: dict[str, Any], where: str, report: Report) -> bool:
    """Whether the box is a region that is neither learned nor counted: a crowd, or one marked ``"ignore": 1``."""
    flags = {}
    for key in ("iscrowd", "ignore"):
        value = entry.get(key, 0)
        if isinstance(value, str) and value.strip().lower() in _FLAGS:
            report.add(f"{key!r} given as a string, converted", f"{where}: {key} {value!r}")
            value = _FLAGS[value.strip().lower()]
        flags[key] = bool(value) if value in (0, 1, None) else False
        if value not in (0, 1, None):
            report.add(f"{key!r} is neither 0 nor 1, taken as 0", f"{where}: {key} {value!r}"[:120])
    if flags["ignore"] and not flags["iscrowd"]:
        report.add("'ignore': 1, taken as a crowd region: not learned, ignored in evaluation", where)
    return any(flags.values())


def parse_bbox(
    entry: dict[str, Any], where: str, report: Report
) -> tuple[float, float, float, float] | None:
    """The four numbers of ``entry["bbox"]``, or None (counted in ``report``) where they are no box."""
    value = entry.get("bbox")
    shown = f"{where}: bbox {value!r}"[:120]
    if "bbox" not in entry:
        report.add("annotation without a 'bbox', skipped", where)
        return None
    if not isinstance(value, list) or len(value) != 4:
        report.add("'bbox' is not a list of four numbers, annotation skipped", shown)
        return None
    try:
        numbers = [float(v) for v in value if not isinstance(v, bool)]
    except (TypeError, ValueError, OverflowError):
        numbers = []
    if len(numbers) != 4:
        report.add("'bbox' is not a list of four numbers, annotation skipped", shown)
        return None
    if any(isinstance(v, str) for v in value):
        report.add("'bbox' numbers given as strings, converted", shown)
    if not all(math.isfinite(v) and abs(v) < MAX_COORDINATE for v in numbers):
        report.add("'bbox' has numbers that are not finite or absurdly large, annotation skipped", shown)
        return None
    x, y, width, height = numbers
    if width <= 0 or height <= 0:
        report.add("'bbox' without positive width and height, annotation skipped", shown)
        return None
    return x, y, width, height


def clip_bbox(
    annotation: Annotation, width: int, height: int, report: Report
) -> tuple[float, float, float, float] | None:
    """The box within its image.

    An overhang of less than one pixel (exporters round) stays, so that an evaluation sees the file's own numbers;
    a larger one is cut and counted; a box wholly outside is dropped and counted (None).
    """
    x, y, w, h = annotation.bbox
    if x >= 0 and y >= 0 and x + w <= width and y + h <= height:
        return annotation.bbox
    x1, y1 = max(x, 0.0), max(y, 0.0)
    x2, y2 = min(x + w, float(width)), min(y + h, float(height))
    shown = f"{annotation.name}: bbox {list(annotation.bbox)} in an image of {width}x{height}"
    if x2 <= x1 or y2 <= y1:
        report.add("'bbox' outside its image, annotation skipped", shown)
        return None
    if max(-x, -y, x + w - width, y + h - height) < 1:
        return annotation.bbox
    report.add("'bbox' reaches out of its image, clipped", shown)
    return x1, y1, x2 - x1, y2 - y1
