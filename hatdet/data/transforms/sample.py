"""The sample that transforms pass on: boxes, and a picture that is described but not yet drawn.

A picture is a canvas with tiles. A tile is a source image and the axis-aligned map from its pixels to the canvas.
Geometric transforms edit maps and boxes only; the first transform that needs pixels calls :func:`render`, which
resamples every visible tile once, straight into the final picture. A tile that was cropped away is never decoded.

Coordinates are continuous: pixel (i, j) covers [j, j+1) x [i, i+1), so a box and a picture transform alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

    from hatdet.data.transforms.batch.unfinished import Unfinished

Image = NDArray[np.uint8]
Size = tuple[int, int]
"""(height, width)"""


@dataclass(slots=True)
class Source:
    """A source image: its size, and how to get its pixels (uint8 (h, w, 3) BGR, or (h, w, 1) gray; not to be
    written to).

    The pixels may be fewer than ``size``: each stands for a square of ``reduction`` by ``reduction`` then, the last row
    and column for what is left of one.
    """

    size: Size
    pixels: Callable[[], Image]
    reduction: int = 1


@dataclass(slots=True)
class Tile:
    """A source drawn on the canvas: X = sx * x + tx, Y = sy * y + ty; negative sx or sy mirror.

    ``clip`` (x1, y1, x2, y2, in canvas pixels, float) bounds what is visible of it.
    """

    source: Source
    sx: float
    sy: float
    tx: float
    ty: float
    clip: tuple[float, float, float, float]
    area: bool = False
    """Average over source pixels where shrinking (INTER_AREA), not bilinear."""


@dataclass(slots=True, eq=False)
class Sample:
    """One image on its way through the transforms.

    ``boxes`` float32 (n, 4) xyxy in canvas pixels, ``labels`` int64 (n,); below 0: to be ignored (``~label``), only of
    data sets that keep crowds. ``img_size`` is the (h, w) of the picture without padding, ``scale`` (sx, sy) canvas
    pixels per file pixel, ``channels`` those of all its sources, ``fill`` the level (or B, G, R) of what none covers.
    """

    index: int
    img_id: int
    file_name: str
    orig_size: Size
    tiles: list[Tile]
    canvas: Size
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    img_size: Size
    scale: tuple[float, float] = (1.0, 1.0)
    fill: int | tuple[int, ...] = 114
    channels: int = 3
    tensor: torch.Tensor | None = None
    border: tuple[int, int, int, int] | None = None
    """(top, bottom, left, right) of the picture on its canvas, where a transform centres it (CenterNet's test)."""
    unfinished: Unfinished | None = None
    """What the training device has still to do to ``tensor``."""


class Partners(Protocol):
    """The images just before this one in the sampler's order."""

    @property
    def indices(self) -> tuple[int, ...]:
        """Their positions in the data set, the nearest first; the current image is never among them."""
        ...

    def load(self, index: int) -> Sample:
        """The raw image, no transform applied, crowd boxes removed."""
        ...


@dataclass(slots=True)
class Context:
    """All that a transform may depend on besides the sample.

    ``must_keep`` is set in the last of several attempts: nothing may then be dropped.
    """

    rng: np.random.Generator
    partners: Partners
    must_keep: bool = False


RANDOM_POP_REACH = 5
"""With random pop an image leaves the reach of Mosaic and MixUp this many times ``max_cached`` images later."""


def partner_window(max_cached: int, random_pop: bool) -> int:
    """How many earlier images may be drawn from."""
    return RANDOM_POP_REACH * max_cached if random_pop else max_cached


def partner_age(draw: float, count: int, max_cached: int, random_pop: bool) -> int:
    """Which of ``count`` earlier images (0: the one just before) a uniform number from 0 to below 1 stands for.

    First in, first out: each of them equally. Random pop (MMDetection's other cache, which forgets any of its
    ``max_cached`` + 1 images for a new one): the older, the less probable, by a factor of
    ``max_cached / (max_cached + 1)`` an image.
    """
    if not random_pop:
        return int(draw * count)
    log_factor = math.log(max_cached / (max_cached + 1))
    age = math.log1p(draw * math.expm1(count * log_factor)) / log_factor
    return min(int(age), count - 1)


class Transform(Protocol):
    """Changes a sample in place and returns it; None drops it (another image is tried)."""

    def __call__(self, sample: Sample, ctx: Context) -> Sample | None: ...


def image_sample(sample: Sample, image: Image) -> Sample:
    """Let ``image`` be the picture of the sample (its canvas must be of the same size)."""
    height, width = image.shape[:2]
    source = Source((height, width), lambda: image)
    sample.tiles = [Tile(source, 1.0, 1.0, 0.0, 0.0, (0.0, 0.0, float(width), float(height)))]
    sample.canvas, sample.channels = (height, width), image.shape[2]
    return sample


# --------------------------------------------------------------------------------------------- geometry
def resize(sample: Sample, size: Size, area: bool = False) -> Sample:
    """Scale the canvas to ``size``."""
    fy, fx = size[0] / sample.canvas[0], size[1] / sample.canvas[1]
    if (fx, fy) != (1.0, 1.0):
        sample.tiles = [
            Tile(t.source, t.sx * fx, t.sy * fy, t.tx * fx, t.ty * fy, _scaled(t.clip, fx, fy), area or t.area)
            for t in sample.tiles
        ]
        sample.boxes = sample.boxes * np.array([fx, fy, fx, fy], np.float32)
        sample.scale = (sample.scale[0] * fx, sample.scale[1] * fy)
        sample.canvas = size
    sample.img_size = size
    return sample


def _scaled(clip: tuple[float, float, float, float], fx: float, fy: float) -> tuple[float, float, float, float]:
    return clip[0] * fx, clip[1] * fy, clip[2] * fx, clip[3] * fy


def window(sample: Sample, x: int, y: int, size: Size) -> Sample:
    """Make the window of ``size`` at (x, y) the new canvas; parts of it outside the old one are fill.

    Boxes are moved, not clipped.
    """
    old_h, old_w = sample.canvas
    height, width = size
    x1, y1 = max(0.0, -float(x)), max(0.0, -float(y))
    x2, y2 = min(float(width), float(old_w - x)), min(float(height), float(old_h - y))
    tiles = []
    for t in sample.tiles:
        clip = (
            max(t.clip[0] - x, x1),
            max(t.clip[1] - y, y1),
            min(t.clip[2] - x, x2),
            min(t.clip[3] - y, y2),
        )
        if clip[2] > clip[0] and clip[3] > clip[1]:
            tiles.append(Tile(t.source, t.sx, t.sy, t.tx - x, t.ty - y, clip, t.area))
    sample.tiles = tiles
    if x or y:
        sample.boxes = sample.boxes - np.array([x, y, x, y], np.float32)
    sample.canvas = size
    return sample


def flip(sample: Sample, horizontal: bool, vertical: bool) -> Sample:
    """Mirror the canvas left-right (``horizontal``) and up-down (``vertical``)."""
    height, width = sample.canvas
    boxes = sample.boxes.copy()
    tiles = sample.tiles
    if horizontal:
        tiles = [
            replace(t, sx=-t.sx, tx=width - t.tx, clip=(width - t.clip[2], t.clip[1], width - t.clip[0], t.clip[3]))
            for t in tiles
        ]
        boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
    if vertical:
        tiles = [
            replace(t, sy=-t.sy, ty=height - t.ty, clip=(t.clip[0], height - t.clip[3], t.clip[2], height - t.clip[1]))
            for t in tiles
        ]
        boxes[:, [1, 3]] = height - boxes[:, [3, 1]]
    sample.tiles, sample.boxes = tiles, boxes
    return sample


def clip_boxes(sample: Sample) -> Sample:
    """Cut the boxes at the canvas and drop those of which nothing is left."""
    height, width = sample.canvas
    if len(sample.boxes):
        limit = np.array([width, height, width, height], np.float32)
        boxes = np.minimum(np.maximum(sample.boxes, np.float32(0)), limit)
        keep = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        sample.boxes, sample.labels = (boxes, sample.labels) if keep.all() else (boxes[keep], sample.labels[keep])
    return sample


def fit_size(size: Size, limit: tuple[float, float], keep_ratio: bool = True) -> Size:
    """The size that an image of ``size`` gets inside ``limit`` (h, w): the largest that fits, at least 1 px."""
    if not keep_ratio:
        return max(1, int(limit[0] + 0.5)), max(1, int(limit[1] + 0.5))
    height, width = size
    # Multiplied before it is divided: for whole limits exact, so that a program in integers finds the same size.
    if limit[0] * width <= limit[1] * height:
        return max(1, int(limit[0] + 0.5)), max(1, int(width * limit[0] / height + 0.5))
    return max(1, int(height * limit[1] / width + 0.5)), max(1, int(limit[1] + 0.5))
