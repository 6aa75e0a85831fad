"""LabelMe's json files, one beside each picture: rectangles as they are, of outlines the box around them."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

from hatdet.data.coco_entries import MAX_COORDINATE
from hatdet.data.coco_json import read_json
from hatdet.data.folders.dataset import DataSet, Picture, numbered, split_name
from hatdet.data.folders.readers.files import add_box, measure, pictures_below, relative
from hatdet.data.image_file import SUFFIXES
from hatdet.data.report import Report
from hatdet.data.walking import walk
from hatdet.utils.errors import UserError

OUTLINES = {"rectangle": 2, "polygon": 3, "circle": 2, "mask": 2, "rotation": 4, "oriented_rectangle": 4}
"""Shapes that have an extent, and the points that they need."""
Shape = tuple[str, str, tuple[float, float, float, float]]


def read_labelme(root: Path) -> DataSet:
    """Read every LabelMe json below ``root``; splits are the folders train, valid, val, test."""
    report = Report(str(root))
    found: list[tuple[Picture, list[Shape]]] = []
    for file in walk(root, (".json",)):
        try:
            content = read_json(file).content
        except UserError as error:
            report.add("json that cannot be read, left out", str(error).rpartition(";")[0])
            continue
        if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
            continue
        found.append((_picture(root, file, content, report), _shapes(relative(file, root), content["shapes"], report)))
    names = sorted({name for _, shapes in found for _, name, _ in shapes})
    for picture, shapes in found:
        for place, name, numbers in shapes:
            add_box(picture, place, numbers, names.index(name), False, report)
    pictures = [picture for picture, _ in found]
    known = {os.path.abspath(picture.path) for picture in pictures}
    for path in pictures_below(root):
        if os.path.abspath(path) not in known:
            report.add("picture without an annotation, left out", str(path))
    return DataSet(root, "LabelMe", numbered(names), pictures, report)


def _picture(root: Path, file: Path, content: dict[str, Any], report: Report) -> Picture:
    given = content.get("imagePath")
    name = given.replace("\\", "/") if isinstance(given, str) else ""
    ways = [file.parent / name, file.parent / name.rpartition("/")[2]] if name else []
    ways += [file.with_suffix(suffix) for suffix in SUFFIXES]
    ways = [Path(os.path.normpath(way)) for way in ways]
    path = next((way for way in ways if way.is_file()), None)
    inside = file.relative_to(root).parts[:-1]
    split = next((found for part in inside if (found := split_name(part))), "")
    picture = Picture(split, path or ways[0], relative(path or ways[0], root), source=file)
    picture.name = "/".join(part for part in picture.name.split("/") if not split or split_name(part) != split)
    if path is None:
        picture.error = "does not exist"
        report.add("annotation whose picture is not there", f"{file}: {given!r}")
        return picture
    measure(picture, report)
    listed = content.get("imageWidth"), content.get("imageHeight")
    if not picture.error and None not in listed and listed != (picture.width, picture.height):
        text = f"{file}: {listed[0]}x{listed[1]}, the picture {picture.width}x{picture.height}"
        report.add("the json's size is not the picture's: boxes are taken as they are", text)
    return picture


def _shapes(file: str, shapes: list[Any], report: Report) -> list[Shape]:
    """Place, class, and x, y, w, h of each usable shape."""
    found = []
    for number, shape in enumerate(shapes, 1):
        place = f"{file}: shape {number}"
        kind = shape.get("shape_type", "polygon") if isinstance(shape, dict) else None
        if not isinstance(kind, str) or kind not in OUTLINES:
            report.add("shape without an extent (a point, a line), left out", f"{place}: {kind!r}")
            continue
        name, points = shape.get("label"), shape.get("points")
        if not isinstance(name, str) or not name.strip() or not _are_points(points, OUTLINES[kind]):
            report.add("shape without a label or without its points, left out", place)
            continue
        xs, ys = [float(x) for x, _ in points], [float(y) for _, y in points]
        if kind == "circle":  # the centre, and a point on the line
            radius = math.hypot(xs[1] - xs[0], ys[1] - ys[0])
            box = (xs[0] - radius, ys[0] - radius, 2 * radius, 2 * radius)
        else:
            box = (min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys))
        found.append((place, name.strip(), box))
    return found


def _are_points(points: Any, least: int) -> bool:
    def is_number(value: Any) -> bool:
        return type(value) in (int, float) and abs(value) < MAX_COORDINATE

    return (
        isinstance(points, list)
        and len(points) >= least
        and all(isinstance(p, list) and len(p) == 2 and all(map(is_number, p)) for p in points)
    )
