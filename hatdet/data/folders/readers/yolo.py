"""YOLO's text files: a line ``class cx cy w h`` an object, in shares of the picture.

Lines with more numbers are outlines (``class x1 y1 x2 y2 x3 y3 ...``, also rotated boxes), of which the box around
them is taken, or boxes with keypoints where data.yaml has ``kpt_shape``. A picture without a file is an empty one.
Format: https://docs.ultralytics.com/datasets/detect/.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

from hatdet.data.coco_entries import Category
from hatdet.data.folders.dataset import DataSet, Picture
from hatdet.data.folders.readers.files import add_box, measure, read_text, relative
from hatdet.data.folders.readers.yolo_setup import NAME_FILES, Setup, find_yaml, read_setup
from hatdet.data.report import Report
from hatdet.data.walking import walk

OUTSIDE = 2.0
"""Shares beyond this are pixels, or garbage: a box may reach out of its picture, not by its whole width."""
PIXEL_DIGITS = 4
"""Of a pixel, after the point: whole pixels that were written as shares come back as whole pixels."""
Line = tuple[int, tuple[float, float, float, float]]


def read_yolo(root: Path) -> DataSet:
    """Read a YOLO data set: a folder, or its data.yaml.

    Raises:
        UserError: data.yaml cannot be used.
    """
    report = Report(str(root))
    setup = read_setup(root, report)
    home = root.parent if root.is_file() else root
    pictures, raw, known = list[Picture](), list[tuple[Picture, list[tuple[str, Line]]]](), set[Path]()
    for split, files in setup.splits.items():
        for base, path in files:
            picture = Picture(split, path, relative(path, base))
            pictures.append(picture)
            if not measure(picture, report):
                known.add(label_file(path))
                continue
            label = next((file for file in label_places(path) if file.is_file()), None)
            known.add(label or label_file(path))
            picture.source, picture.labelled = label, label is not None
            if label is None:
                report.add("picture without a file of labels, taken for an empty one", str(path))
            else:
                raw.append((picture, _lines(label, relative(label, home), setup, report)))
    ids = _class_ids(setup, [line[0] for _, lines in raw for _, line in lines], report)
    for picture, lines in raw:
        _attach(picture, lines, ids, report)
    _orphans(home, setup, known, report)
    classes = [Category(number + 1, name) for number, name in ids.items()]
    return DataSet(root, "YOLO", classes, pictures, report, setup.named)


def label_file(picture: Path) -> Path:
    """Where the labels of a picture belong: ``images`` becomes ``labels``, the last time it stands in the path."""
    parts = list(picture.parts)
    for position in range(len(parts) - 2, -1, -1):
        if parts[position] == "images":
            parts[position] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def label_places(picture: Path) -> list[Path]:
    """Where the labels of a picture are looked for: see :func:`label_file`, beside it, in a folder beside it."""
    name = picture.with_suffix(".txt").name
    return list(dict.fromkeys([label_file(picture), picture.parent / name, picture.parent / "labels" / name]))


def _class_ids(setup: Setup, used: list[int], report: Report) -> dict[int, str]:
    if setup.names:
        return setup.names
    count = min(max(used, default=-1) + 1, 10_000)
    if count:
        report.add("no names of classes (data.yaml, classes.txt): called by their numbers", f"0 to {count - 1}")
    return {number: f"class_{number}" for number in range(count)}


# ------------------------------------------------------------------------------------------------ lines
def _lines(file: Path, shown: str, setup: Setup, report: Report) -> list[tuple[str, Line]]:
    """The objects of a file, each with its place for messages; lines that say the same twice count once."""
    found: list[tuple[str, Line]] = []
    seen: set[Line] = set()
    for number, text in enumerate((read_text(file, report) or "").splitlines(), 1):
        if not text.strip():
            continue
        place = f"{shown}:{number}"
        line = _parse(text, place, setup.keypoints, report)
        if line is None:
            continue
        if line in seen:
            report.add("line that stands twice in its file, counted once", place)
            continue
        seen.add(line)
        found.append((place, line))
    return found


def _parse(text: str, place: str, keypoints: int, report: Report) -> Line | None:
    words = text.split()
    shown = f"{place}: {text.strip()}"[:120]
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        report.add("line that is not made of numbers, left out", shown)
        return None
    if not re.fullmatch(r"\d+(\.0*)?", words[0]) or len(words[0]) > 8:
        report.add("line whose class is not a whole number from 0, left out", shown)
        return None
    values = numbers[1:]
    if not all(math.isfinite(value) for value in values):
        report.add("box with numbers that are not finite or absurdly large, left out", shown)
        return None
    if keypoints and len(values) == 4 + keypoints:
        values = values[:4]
    elif len(values) == 5:
        report.add("line with a sixth number (a score?), which is not used", shown)
        values = values[:4]
    elif len(values) >= 6 and len(values) % 2 == 0:
        return int(numbers[0]), _around(values)
    if len(values) != 4:
        report.add("line that is neither a box (5 numbers) nor an outline (class, 3 points or more), left out", shown)
        return None
    return int(numbers[0]), (values[0], values[1], values[2], values[3])


def _around(values: list[float]) -> tuple[float, float, float, float]:
    """cx, cy, w, h of the box around points x1 y1 x2 y2 ..."""
    left, right, top, bottom = min(values[::2]), max(values[::2]), min(values[1::2]), max(values[1::2])
    return (left + right) / 2, (top + bottom) / 2, right - left, bottom - top


def _attach(picture: Picture, lines: list[tuple[str, Line]], ids: dict[int, str], report: Report) -> None:
    labels = {number: label for label, number in enumerate(ids)}
    for place, (number, (cx, cy, width, height)) in lines:
        if number not in labels:
            report.add("class number without a name, box left out", f"{place}: class {number} of {len(ids)}")
        elif max(abs(value) for value in (cx, cy, width, height)) > OUTSIDE:
            shown = f"{place}: {cx:g} {cy:g} {width:g} {height:g}"
            report.add("numbers that are no shares of the picture (0 to 1; are they pixels?), box left out", shown)
        else:
            x, y = (cx - width / 2) * picture.width, (cy - height / 2) * picture.height
            numbers = (x, y, width * picture.width, height * picture.height)
            add_box(picture, place, [round(v, PIXEL_DIGITS) for v in numbers], labels[number], False, report)


def _orphans(home: Path, setup: Setup, known: set[Path], report: Report) -> None:
    """Count the label files in the folders of labels that belong to no picture."""
    folders = {file.parent for file in known if file.parent.is_dir()}
    lists = {Path(name).name for name in NAME_FILES} | {"train.txt", "val.txt", "test.txt", "README.txt"}
    setup_file = find_yaml(home) if home.is_dir() else None
    for folder in sorted(folders):
        for file in walk(folder, (".txt",)):
            if file.parent != folder or file in known or file.name in lists or "README" in file.name:
                continue
            if file != setup_file:
                report.add("file of labels without a picture, left out", str(file))
