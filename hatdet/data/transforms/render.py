"""Draw a sample's tiles: the only place where geometry touches pixels."""

from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np

from hatdet.data.transforms.sample import Image, Sample, Source, Tile, image_sample

_TOLERANCE = 1e-3
"""Canvas pixels by which an edge may miss a whole number and still count as on it (rounding of float maps)."""


def render(sample: Sample) -> Image:
    """Draw the picture, uint8 (h, w, channels); the sample then holds it as its only tile.

    A single image that is shown whole is exactly ``cv2.resize`` of it (and ``cv2.flip``). The result may be the
    source's own array: do not write to it.
    """
    height, width = sample.canvas
    visible = []
    for tile in sample.tiles:
        x1, y1 = max(0, _round(tile.clip[0])), max(0, _round(tile.clip[1]))
        x2, y2 = min(width, _round(tile.clip[2])), min(height, _round(tile.clip[3]))
        if x2 > x1 and y2 > y1:
            visible.append((tile, x1, y1, x2, y2))
    if len(visible) == 1 and visible[0][1:] == (0, 0, width, height):
        image = _draw(visible[0][0], 0, 0, width, height, None)
    else:
        image = np.full((height, width, sample.channels), sample.fill, np.uint8)
        for tile, x1, y1, x2, y2 in visible:
            _draw(tile, x1, y1, x2, y2, image[y1:y2, x1:x2])
    image_sample(sample, image)
    return image


def with_channels(image: Image) -> Image:
    """OpenCV drops the axis of a single channel: put it back."""
    return image[:, :, None] if image.ndim == 2 else image


def _round(value: float) -> int:
    return math.floor(value + 0.5)


def _near(a: float, b: float) -> bool:
    return abs(a - b) < _TOLERANCE


def _draw(tile: Tile, x1: int, y1: int, x2: int, y2: int, out: Image | None) -> Image:
    """Draw the part of a tile inside the canvas rectangle; into ``out`` where that is given."""
    pixels = tile.source.pixels()
    if pixels.shape[:2] != tile.source.size:
        tile = _of_reduced(tile, pixels)
    source_h, source_w = tile.source.size
    full_w, full_h = abs(tile.sx) * source_w, abs(tile.sy) * source_h
    left = tile.tx if tile.sx > 0 else tile.tx - full_w
    top = tile.ty if tile.sy > 0 else tile.ty - full_h
    whole = _near(left, x1) and _near(top, y1) and _near(full_w, x2 - x1) and _near(full_h, y2 - y1)
    aligned = _near(left, _round(left)) and _near(top, _round(top))
    if whole or tile.area:
        return _draw_whole(tile, pixels, (x1, y1, x2, y2), left, top, out)
    if aligned and abs(tile.sx) == 1 == abs(tile.sy):
        return _draw_whole(tile, pixels, (x1, y1, x2, y2), left, top, out)
    return _draw_part(tile, pixels, (x1, y1, x2, y2), out)


def _of_reduced(tile: Tile, pixels: Image) -> Tile:
    """The map from the pixels that are there: each covers a whole number of the file's, so nothing is rounded."""
    n = tile.source.reduction
    source = Source(pixels.shape[:2], tile.source.pixels)
    return replace(tile, source=source, sx=tile.sx * n, sy=tile.sy * n)


def _draw_whole(
    tile: Tile, pixels: Image, rect: tuple[int, int, int, int], left: float, top: float, out: Image | None
) -> Image:
    """Resize the whole source (to whole pixels), mirror it, and cut the rectangle out."""
    x1, y1, x2, y2 = rect
    source_h, source_w = tile.source.size
    size = max(1, _round(abs(tile.sx) * source_w)), max(1, _round(abs(tile.sy) * source_h))
    if size != (source_w, source_h):
        shrinks = size[0] < source_w or size[1] < source_h
        method = cv2.INTER_AREA if tile.area and shrinks else cv2.INTER_LINEAR
        direct = out if out is not None and out.shape[1::-1] == size and tile.sx > 0 and tile.sy > 0 else None
        pixels = with_channels(cv2.resize(pixels, size, dst=direct, interpolation=method))
    mirror = (tile.sx < 0, tile.sy < 0)
    x, y = x1 - _round(left), y1 - _round(top)
    x, y = min(max(x, 0), size[0] - 1), min(max(y, 0), size[1] - 1)
    if mirror[0]:
        x = size[0] - x - (x2 - x1)
    if mirror[1]:
        y = size[1] - y - (y2 - y1)
    x, y = max(x, 0), max(y, 0)
    part = pixels[y : y + y2 - y1, x : x + x2 - x1]
    if part.shape[:2] != (y2 - y1, x2 - x1):  # an area-averaged size was rounded down: repeat the last row
        part = with_channels(
            cv2.copyMakeBorder(part, 0, y2 - y1 - part.shape[0], 0, x2 - x1 - part.shape[1], cv2.BORDER_REPLICATE)
        )
    if any(mirror):
        part = with_channels(cv2.flip(part, -1 if all(mirror) else 1 if mirror[0] else 0))
    if out is None:
        return part
    if part is not out and not np.shares_memory(part, out):
        out[...] = part
    return out


def _draw_part(tile: Tile, pixels: Image, rect: tuple[int, int, int, int], out: Image | None) -> Image:
    """Resample bilinearly only what the rectangle shows; beyond its edge the source repeats its border."""
    x1, y1, x2, y2 = rect
    source_h, source_w = tile.source.size
    step_x, step_y = 1 / tile.sx, 1 / tile.sy
    start_x, start_y = (x1 + 0.5 - tile.tx) * step_x - 0.5, (y1 + 0.5 - tile.ty) * step_y - 0.5
    low_x, high_x = _span(start_x, start_x + (x2 - x1 - 1) * step_x, source_w)
    low_y, high_y = _span(start_y, start_y + (y2 - y1 - 1) * step_y, source_h)
    matrix = np.array([[step_x, 0, start_x - low_x], [0, step_y, start_y - low_y]])
    source, gray = pixels[low_y:high_y, low_x:high_x], pixels.shape[2] == 1
    # Four channels are resampled 2.5 times as fast as three, to the same values; adding one costs little.
    part = cv2.warpAffine(
        source if gray else cv2.cvtColor(source, cv2.COLOR_BGR2BGRA),
        matrix,
        (x2 - x1, y2 - y1),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    if not gray:
        return cv2.cvtColor(part, cv2.COLOR_BGRA2BGR, dst=out)  # type: ignore[return-value]
    if out is None:
        return with_channels(part)  # type: ignore[arg-type]
    out[...] = with_channels(part)  # type: ignore[arg-type]
    return out


def _span(first: float, last: float, size: int) -> tuple[int, int]:
    """Source pixels that interpolation between two positions reads, with a margin, inside the source."""
    low, high = min(first, last), max(first, last)
    start = min(max(math.floor(low) - 1, 0), size - 1)
    return start, max(min(math.ceil(high) + 2, size), start + 1)
