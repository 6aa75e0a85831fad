"""What a COCO detection file holds, once it is checked: classes, pictures and boxes."""

from __future__ import annotations

from dataclasses import dataclass, field

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
