"""Pascal VOC's annotation files."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

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


def read_voc(file: Path) -> VocPicture:
    """Read one annotation.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    try:
        tree = ET.parse(file).getroot()
        width, height = (int(float(_text(tree, f"size/{side}"))) for side in ("width", "height"))
        objects = tuple(_object(one) for one in tree.findall("object"))
    except FileNotFoundError:
        raise UserError(f"no annotation at {file}; take {file.stem} out of the list, or add it") from None
    except (ET.ParseError, ValueError) as error:
        raise UserError(f"{file}: {error}; mend that annotation") from error
    return VocPicture(tree.findtext("filename"), (height, width), objects)


def _object(element: ET.Element) -> VocObject:
    left, top, right, bottom = (float(_text(element, f"bndbox/{s}")) for s in ("xmin", "ymin", "xmax", "ymax"))
    difficult = element.findtext("difficult", "0").strip() == "1"
    return VocObject(_text(element, "name"), (left, top, right, bottom), difficult)


def _text(element: ET.Element, path: str) -> str:
    text = element.findtext(path)
    if text is None or not text.strip():
        raise ValueError(f"no <{path}>")
    return text.strip()
