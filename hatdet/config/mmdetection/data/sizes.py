"""The size that pictures fit into when they are tested, read off their transforms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def size_of(transforms: Sequence[Mapping[str, Any]]) -> tuple[int, int] | None:
    """(h, w) of a picture in landscape after transforms; None: that of the file."""
    size: tuple[int, int] | None = None
    for step in transforms:
        kind = str(step["type"]).removeprefix("mmdet.")
        if kind in ("Resize", "FixScaleResize") and step.get("scale"):
            size = _landscape(step["scale"], bool(step.get("keep_ratio", False)))
        elif kind == "RandomResize":
            scale = step["scale"]
            size = _landscape(scale if isinstance(scale[0], int) else scale[-1], bool(step.get("keep_ratio", False)))
        elif kind == "RandomChoiceResize":
            size = _landscape(step["scales"][-1], bool(step.get("keep_ratio", False)))
        elif kind == "FixShapeResize":
            size = step["height"], step["width"]
        elif kind in ("Pad", "RandomCenterCropPad") and (step.get("size") or step.get("crop_size")):
            width, height = step.get("size") or step["crop_size"]
            size = int(height), int(width)
        elif kind == "RandomCrop" and step.get("crop_type", "absolute") == "absolute":
            size = int(step["crop_size"][1]), int(step["crop_size"][0])
        elif kind == "Pad" and step.get("pad_to_square") and size is not None:
            size = max(size), max(size)
    return size


def _landscape(scale: Any, keep_ratio: bool) -> tuple[int, int]:
    width, height = (scale, scale) if isinstance(scale, int) else scale
    return (min(width, height), max(width, height)) if keep_ratio else (int(height), int(width))
