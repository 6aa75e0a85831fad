"""Pascal VOC's annotation files."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

from hatdet.data.report import Report
from hatdet.utils.errors import UserError

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


@dataclass(frozen=True)
class VocObject:
    """An object: ``corners`` (xmin, ymin, xmax, ymax) as the file gives them, the first pixel being 1."""

    name: str
    corners: tuple[float, float, float, float]
    difficult: bool


@dataclass(frozen=True)
class VocPicture:
    """What one file says; ``size`` is (h, w)."""

    file_name: str | None
    size: tuple[int, int]
    objects: tuple[VocObject, ...]


def read_voc(file: Path, report: Report | None = None) -> VocPicture:
    """Read one annotation.

    Args:
        report: counts objects that cannot be used, and a size that is missing (0, 0); without one both are errors.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    try:
        tree = ET.parse(file).getroot()
        objects = tuple(one for element in tree.findall("object") if (one := _object(element, file, report)))
        return VocPicture(tree.findtext("filename"), _size(tree, file, report), objects)
    except FileNotFoundError:
        raise UserError(f"no annotation at {file}; take {file.stem} out of the list, or add it") from None
    except (ET.ParseError, ValueError, LookupError) as error:  # LookupError: an encoding that is none
        raise UserError(f"{file}: {error}; mend that annotation") from error


def _size(tree: ET.Element, file: Path, report: Report | None) -> tuple[int, int]:
    try:
        width, height = (int(_number(tree, f"size/{side}")) for side in ("width", "height"))
        if report is None or (width > 0 and height > 0):
            return height, width
        raise ValueError(f"{width}x{height}")
    except ValueError as error:
        if report is None:
            raise
        report.add("picture size missing or wrong, read from the picture instead", f"{file}: {error}")
        return 0, 0


def _object(element: ET.Element, file: Path, report: Report | None) -> VocObject | None:
    try:
        left, top, right, bottom = (_number(element, f"bndbox/{s}") for s in ("xmin", "ymin", "xmax", "ymax"))
        difficult = (element.findtext("difficult") or "0").strip() == "1"
        return VocObject(_text(element, "name"), (left, top, right, bottom), difficult)
    except ValueError as error:
        if report is None:
            raise
        report.add("object without a name or four corners, left out", f"{file}: {error}")
        return None


def _number(element: ET.Element, path: str) -> float:
    value = float(_text(element, path))
    if not math.isfinite(value):
        raise ValueError(f"<{path}> is {value}")
    return value


def _text(element: ET.Element, path: str) -> str:
    text = element.findtext(path)
    if text is None or not text.strip():
        raise ValueError(f"no <{path}>")
    return text.strip()
