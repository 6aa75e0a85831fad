"""What readers share: reading text, boxes from numbers."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

from hatdet.data.coco_entries import MAX_COORDINATE, Annotation
from hatdet.data.folders.dataset import Picture
from hatdet.data.folders.sizes import picture_size
from hatdet.data.image_file import SUFFIXES, ImageError
from hatdet.data.report import Report
from hatdet.data.walking import walk


def pictures_below(root: Path) -> list[Path]:
    """The picture files below a folder."""
    return list(walk(root, SUFFIXES))


def read_text(path: Path, report: Report) -> str | None:
    """The text of a file in UTF-8 (with or without a mark); None, counted, where it is none."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        report.add("file of labels that is no text in UTF-8, left out", str(path))
    except OSError as error:
        report.add("file of labels that cannot be read, left out", f"{path}: {error.strerror}")
    return None


def measure(picture: Picture, report: Report) -> bool:
    """Fill in the size of a picture from its file; False, counted, where it has none."""
    try:
        picture.width, picture.height = picture_size(picture.path)
    except ImageError as error:
        picture.error = str(error)
        report.add("picture left out", f"{picture.path}: {error}")
        return False
    return True


def add_box(picture: Picture, name: str, numbers: Sequence[float], label: int, crowd: bool, report: Report) -> None:
    """Give a picture a box (x, y, w, h) in pixels; one that is none is counted instead.

    Args:
        name: where it comes from, for messages.
    """
    x, y, width, height = (float(number) for number in numbers)
    shown = f"{name}: x, y, width, height = {x:.6g}, {y:.6g}, {width:.6g}, {height:.6g}"
    if not all(math.isfinite(value) and abs(value) < MAX_COORDINATE for value in (x, y, width, height)):
        report.add("box with numbers that are not finite or absurdly large, left out", shown)
    elif width <= 0 or height <= 0:
        report.add("box without positive width and height, left out", shown)
    else:
        picture.boxes.append(Annotation(name, (x, y, width, height), label, width * height, crowd))


def relative(path: Path, root: Path) -> str:
    """``path`` below ``root``, with ``/``; its name alone where it lies elsewhere."""
    for inner, outer in ((path, root), (Path(os.path.abspath(path)), Path(os.path.abspath(root)))):
        if inner.is_relative_to(outer):
            return inner.relative_to(outer).as_posix()
    return path.name
