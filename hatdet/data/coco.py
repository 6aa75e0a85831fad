"""A strict reader for COCO detection files.

What makes the whole file doubtful (duplicate keys, wrong structure, double ids) is an error; one bad annotation
or image is left out and counted in a :class:`~hatdet.data.report.Report`. Format: https://cocodataset.org/#format-data.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hatdet.data.report import Report
from hatdet.utils.errors import UserError, did_you_mean

MAX_COORDINATE = 1e6
"""Box numbers beyond this are taken for garbage; no image that is accepted is that wide."""

MAX_ID = 2**53
"""Ids up to this are exact in the float64 tables of detections that evaluators take."""


@dataclass(frozen=True)
class Category:
    """One class; labels count categories in ascending id."""

    id: int
    name: str
    supercategory: str = ""


@dataclass
class Annotation:
    """One box as the file gives it: ``bbox`` (x, y, width, height) in pixels, finite, width and height > 0."""

    name: str
    bbox: tuple[float, float, float, float]
    label: int
    area: float
    iscrowd: bool


@dataclass
class ImageEntry:
    """One listed image; a width or height of 0 means that the file does not say it."""

    id: int | str
    file_name: str
    width: int
    height: int
    annotations: list[Annotation] = field(default_factory=list)


@dataclass
class CocoFile:
    """What a COCO json holds, checked."""

    path: Path
    categories: list[Category]
    images: list[ImageEntry]
    num_annotations: int
    report: Report


def read_coco(path: str | Path) -> CocoFile:
    """Read and check a COCO detection file.

    Raises:
        UserError: the file cannot be used as a whole; the message names file, key and id.
    """
    path = Path(path)
    content = _load(path)
    if not isinstance(content, dict):
        raise UserError(
            f"{path}: expected an object with images, annotations and categories at the top, "
            f"found {_kind(content)}" + (" (a results file?)" if isinstance(content, list) else "")
        )
    lists = {key: _list(path, content, key) for key in ("images", "annotations", "categories")}
    report = Report(str(path))
    images = _images(path, lists["images"], report)
    categories = _categories(path, lists["categories"], lists["annotations"], report)
    _annotations(path, lists["annotations"], images, categories, report)
    return CocoFile(path, categories, list(images.values()), len(lists["annotations"]), report)


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    names = {dict: "an object", list: "a list", str: "a string", bool: "true/false", int: "a number"}
    return names.get(type(value), "a number")


def _load(path: Path) -> Any:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        near = [p.name for p in path.parent.glob("*.json")] if path.parent.is_dir() else []
        raise UserError(f"{path} does not exist{did_you_mean(path.name, near)}") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a directory; a COCO json file is expected") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    if data[:2] == b"\x1f\x8b":
        raise UserError(f"{path} is gzip-compressed, not JSON; unpack it first")
    try:
        return json.loads(data, object_pairs_hook=_unique)
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not JSON: byte {error.start} is not valid {error.encoding}") from None
    except json.JSONDecodeError as error:
        start = data.lstrip()[:15].lower()
        hint = " (it looks like a web page)" if start.startswith((b"<!doctype", b"<html")) else ""
        where = f"line {error.lineno}, column {error.colno}"
        raise UserError(f"{path} is not valid JSON: {where}: {error.msg}{hint}") from None
    except RecursionError:
        raise UserError(f"{path} is nested too deeply to be a COCO file") from None
    except _DuplicateKey as error:
        raise UserError(
            f"{path}: the key {error.args[0]!r} appears twice in one object; remove one of them"
        ) from None
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON: {error}") from None


class _DuplicateKey(Exception):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        keys = [key for key, _ in pairs]
        raise _DuplicateKey(next(key for key in keys if keys.count(key) > 1))
    return result


def _list(path: Path, content: dict[str, Any], key: str) -> list[Any]:
    if key not in content:
        raise UserError(
            f"{path}: the key {key!r} is missing (found: {', '.join(map(repr, list(content)[:8])) or 'nothing'})"
        )
    if not isinstance(content[key], list):
        raise UserError(f"{path}: {key!r} must be a list, found {_kind(content[key])}")
    return content[key]  # type: ignore[no-any-return]


def as_int(value: Any) -> int | None:
    """An id or a size: an int, or a float without a fraction; None for everything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return None


def _text(value: str) -> str:
    """JSON can hold half surrogate pairs, which no file or terminal accepts."""
    return value.encode("utf-8", "replace").decode("utf-8")


# ---------------------------------------------------------------------------------------------- images
def _images(path: Path, entries: list[Any], report: Report) -> dict[int | str, ImageEntry]:
    images: dict[int | str, ImageEntry] = {}
    if not entries:
        raise UserError(f"{path}: 'images' is empty: there are no images")
    for position, entry in enumerate(entries):
        where = f"images[{position}]"
        if not isinstance(entry, dict):
            raise UserError(f"{path}: {where} must be an object, found {_kind(entry)}")
        if "id" not in entry:
            raise UserError(f"{path}: {where} has no 'id' (file_name {entry.get('file_name')!r})")
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


# ------------------------------------------------------------------------------------------ categories
def _categories(path: Path, entries: list[Any], annotations: list[Any], report: Report) -> list[Category]:
    if not entries:
        raise UserError(f"{path}: 'categories' is empty: there are no classes")
    found: dict[int, Category] = {}
    for position, entry in enumerate(entries):
        where = f"categories[{position}]"
        if not isinstance(entry, dict):
            raise UserError(f"{path}: {where} must be an object, found {_kind(entry)}")
        if "id" not in entry:
            raise UserError(f"{path}: {where} has no 'id' (name {entry.get('name')!r})")
        category_id = as_int(entry["id"])
        if category_id is None or abs(category_id) > MAX_ID:
            raise UserError(f"{path}: {where}: 'id' must be a whole number up to 2^53, got {entry['id']!r}")
        name = entry.get("name")
        if not isinstance(name, str) or not name.strip():
            report.add("category without a 'name', named by its id", f"category id {category_id}")
            name = f"category_{category_id}"
        name = _text(name)
        if category_id in found:
            raise UserError(
                f"{path}: two categories have the id {category_id}: {found[category_id].name!r} and {name!r}"
            )
        supercategory = entry.get("supercategory")
        text = _text(supercategory) if isinstance(supercategory, str) else ""
        found[category_id] = Category(category_id, name, text)
    kept = _without_dummies(found, annotations, report)
    names: dict[str, int] = {}
    for category in kept:
        if category.name in names:
            raise UserError(
                f"{path}: the categories {names[category.name]} and {category.id} have the same name "
                f"{category.name!r}; merge or rename them"
            )
        names[category.name] = category.id
    return kept


def _without_dummies(found: dict[int, Category], annotations: list[Any], report: Report) -> list[Category]:
    """Roboflow exports list a parent category first, of supercategory "none" and without boxes: leave it out.

    Where every category has the supercategory "none" it says nothing, and all stay.
    """
    ordered = [found[key] for key in sorted(found)]
    if all(category.supercategory == "none" for category in ordered):
        return ordered
    used = {as_int(a.get("category_id")) for a in annotations if isinstance(a, dict)}
    kept = []
    for category in ordered:
        if category.supercategory == "none" and category.id not in used:
            report.add("unused category of supercategory 'none' left out", repr(category.name))
        else:
            kept.append(category)
    return kept


# ----------------------------------------------------------------------------------------- annotations
def _annotations(
    path: Path,
    entries: list[Any],
    images: dict[int | str, ImageEntry],
    categories: list[Category],
    report: Report,
) -> None:
    labels = {category.id: label for label, category in enumerate(categories)}
    ids: set[Any] = set()
    matched = kept = 0
    normalised = True
    for position, entry in enumerate(entries):
        if not isinstance(entry, dict):
            report.add("annotation is not an object, skipped", f"annotations[{position}] is {_kind(entry)}")
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
        normalised = normalised and max(annotation.bbox) <= 1.0
    if entries and not matched:
        example = next((e.get("image_id") for e in entries if isinstance(e, dict)), None)
        raise UserError(
            f"{path}: no annotation matches an image: the first 'image_id' is {example!r}, "
            f"the first image 'id' is {next(iter(images))!r}"
        )
    if matched and not kept:
        reasons = "".join(f"\n  {line}" for line in report.lines())
        raise UserError(f"{path}: no usable box is left in the file{reasons}")
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
    category_id = as_int(entry.get("category_id"))
    label = labels.get(category_id) if category_id is not None else None
    if label is None:
        got = f"{where}: category_id {entry.get('category_id')!r}"[:120]
        report.add("annotation of a category that is not listed, skipped", got)
        return None
    bbox = parse_bbox(entry, where, report)
    if bbox is None:
        return None
    area = entry.get("area")
    valid = isinstance(area, (int, float)) and not isinstance(area, bool) and 0 < area < MAX_COORDINATE**2
    return Annotation(
        where, bbox, label, float(area or 0) if valid else bbox[2] * bbox[3], _is_crowd(entry, where, report)
    )


def _is_crowd(entry: dict[str, Any], where: str, report: Report) -> bool:
    value = entry.get("iscrowd", 0)
    if value not in (0, 1, None):
        report.add("'iscrowd' is neither 0 nor 1, taken as 0", f"{where}: iscrowd {value!r}"[:120])
        return False
    return bool(value)


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
