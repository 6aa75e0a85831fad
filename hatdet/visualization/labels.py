"""Where the labels of boxes go so that they hide no object."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

LARGE = 30.0
"""A box so many times as large as a label may have it in a corner: that is background mostly, and hides little."""

Place = tuple[float, float]


def place_labels(
    boxes: NDArray[np.floating], sizes: Sequence[Place], canvas: Place, gap: float = 2.0
) -> list[Place | None]:
    """The top left corner of each box's label, or None where there is no place for it.

    Outside of every box first; else over none but large boxes (:data:`LARGE`). Labels do not lie on each other.

    Args:
        boxes: (n, 4) xyxy, all that are drawn; the first get their places first.
        sizes: width and height of the label of each of the first boxes; (0, 0): it has none.
        canvas: width and height of the picture.
    """
    corners = np.asarray(boxes, np.float64).reshape(-1, 4)
    areas = (corners[:, 2:] - corners[:, :2]).clip(0).prod(axis=1)
    taken: list[tuple[float, float, float, float]] = []
    places: list[Place | None] = []
    for box, (width, height) in zip(corners.tolist(), sizes, strict=False):
        found = None
        if width and height:
            small = corners[areas < LARGE * width * height]
            found = _free(_around(box, width, height, gap), (width, height), canvas, corners, taken)
            found = found or _free(_inside(box, width, height), (width, height), canvas, small, taken)
            found = found or _free(_around(box, width, height, gap), (width, height), canvas, small, taken)
        places.append(found)
        if found is not None:
            taken.append((found[0], found[1], found[0] + width, found[1] + height))
    return places


def _around(box: Sequence[float], width: float, height: float, gap: float) -> Iterator[Place]:
    x1, y1, x2, y2 = box
    for x in (x1, x2 - width):
        yield x, y1 - height - gap
        yield x, y2 + gap
    for y in (y1, y2 - height):
        yield x2 + gap, y
        yield x1 - width - gap, y


def _inside(box: Sequence[float], width: float, height: float) -> Iterator[Place]:
    x1, y1, x2, y2 = box
    if (x2 - x1) * (y2 - y1) >= LARGE * width * height:
        for y in (y1, y2 - height):
            yield x1, y
            yield x2 - width, y


def _free(
    places: Iterator[Place],
    size: Place,
    canvas: Place,
    boxes: NDArray[np.float64],
    taken: Sequence[tuple[float, float, float, float]],
) -> Place | None:
    others = np.concatenate([boxes, np.array(taken, np.float64).reshape(-1, 4)])
    for x, y in places:
        right, bottom = x + size[0], y + size[1]
        if x < 0 or y < 0 or right > canvas[0] or bottom > canvas[1]:
            continue
        over = (others[:, 0] < right) & (others[:, 2] > x) & (others[:, 1] < bottom) & (others[:, 3] > y)
        if not over.any():
            return x, y
    return None
