"""What the transforms here share: boxes on a canvas, sizes as MMDetection rounds them, the colour around pictures.

A label below 0 marks a box to ignore (a crowd): ``~label``. It goes through geometry like any other box.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hatdet.data.transforms.render import render
from hatdet.data.transforms.sample import Context, Sample, Size

Boxes = NDArray[np.float32]
Mask = NDArray[np.bool_]


def clip(boxes: Boxes, size: Size) -> Boxes:
    """``boxes`` (n, 4) xyxy cut at a canvas of ``size`` (h, w); the count stays."""
    height, width = size
    return np.minimum(np.maximum(boxes, np.float32(0)), np.array([width, height, width, height], np.float32))


def inside(boxes: Boxes, size: Size) -> Mask:
    """Which of ``boxes`` (n, 4) share area with the canvas, as MMDetection's ``is_inside`` decides."""
    height, width = size
    return (boxes[:, 0] < width) & (boxes[:, 1] < height) & (boxes[:, 2] > 0) & (boxes[:, 3] > 0)


def keep(sample: Sample, mask: Mask) -> Sample:
    """The sample with the boxes of ``mask`` alone."""
    if not mask.all():
        sample.boxes, sample.labels = sample.boxes[mask], sample.labels[mask]
    return sample


def clip_and_filter(sample: Sample, clip_border: bool) -> Sample:
    """Cut the boxes at the canvas where ``clip_border``, and drop those outside."""
    if clip_border:
        sample.boxes = clip(sample.boxes, sample.canvas)
    return keep(sample, inside(sample.boxes, sample.canvas))


def centers_within(boxes: Boxes, patch: Sequence[float]) -> Mask:
    """Which boxes have their centre strictly inside ``patch`` (x1, y1, x2, y2)."""
    x, y = (boxes[:, 0] + boxes[:, 2]) / 2, (boxes[:, 1] + boxes[:, 3]) / 2
    return (x > patch[0]) & (y > patch[1]) & (x < patch[2]) & (y < patch[3])


def iou(box: Sequence[float], boxes: Boxes) -> NDArray[np.float32]:
    """Intersection over union of one box with each of ``boxes`` (n, 4): (n,)."""
    one = np.asarray(box, np.float32)
    sides = np.minimum(one[2:], boxes[:, 2:]) - np.maximum(one[:2], boxes[:, :2])
    shared = np.maximum(sides, 0).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    return shared / np.maximum(areas + (one[2:] - one[:2]).prod() - shared, np.float32(1e-6))


def rescale_size(size: Size, scale: Sequence[float]) -> Size:
    """(h, w) of a picture of ``size`` that keeps its proportions inside ``scale``, whose longer number is for the
    longer side whichever that is; rounded to the nearest, at least 1."""
    factor = fit(size, scale)
    return max(1, int(size[0] * factor + 0.5)), max(1, int(size[1] * factor + 0.5))


def fit(size: Size, scale: Sequence[float]) -> float:
    """By how much a picture of ``size`` is scaled for :func:`rescale_size`."""
    return min(max(scale) / max(size), min(scale) / min(size))


def set_fill(sample: Sample, fill: float | Sequence[float]) -> None:
    """Choose the colour (one level, or B, G, R) of what no picture covers from now on."""
    if not isinstance(fill, (int, float)):
        levels = tuple(round(float(level)) for level in fill)
        gray = round(sum(levels) / len(levels))
        fill = levels[0] if len(set(levels)) == 1 else gray if sample.channels == 1 else levels  # type: ignore[assignment]
    else:
        fill = round(fill)
    if sample.fill != fill and not _covered(sample):
        render(sample)  # what shows the other colour already
    sample.fill = fill  # type: ignore[assignment]


def _covered(sample: Sample) -> bool:
    height, width = sample.canvas
    return any(
        t.clip[0] <= 0 and t.clip[1] <= 0 and t.clip[2] >= width and t.clip[3] >= height for t in sample.tiles
    )


def pixels(sample: Sample) -> NDArray[np.uint8]:
    """The picture drawn, an array of its own that may be written to."""
    return render(sample).copy()


def uniform(ctx: Context, low: float, high: float) -> float:
    """A number between ``low`` and ``high``."""
    return float(ctx.rng.uniform(low, high))


def window_of(transforms: object) -> int:
    """How many earlier images any of nested ``transforms`` wants to choose partners from."""
    if isinstance(transforms, (list, tuple)):
        return max((window_of(t) for t in transforms), default=0)
    return int(getattr(transforms, "window", 0))
