"""Resize, crop, flip and pad: they edit the map from source to canvas and the boxes, no pixels."""

from __future__ import annotations

from typing import Literal

import numpy as np

from hatdet.data.transforms.reach import Reach, unchanged
from hatdet.data.transforms.sample import (
    Context,
    Sample,
    Size,
    clip_boxes,
    fit_size,
    flip,
    resize,
    window,
)
from hatdet.registry import register
from hatdet.utils.errors import UserError


def check_size(name: str, size: Size) -> Size:
    """A (h, w) of whole numbers of at least 1.

    Raises:
        UserError: it is not one.
    """
    if len(size) != 2 or any(int(s) != s or s < 1 for s in size):
        raise UserError(f"{name}: expected (height, width) in whole pixels of at least 1, got {size!r}")
    return int(size[0]), int(size[1])


def check_range(name: str, values: tuple[float, float]) -> tuple[float, float]:
    """A pair 0 < low <= high.

    Raises:
        UserError: it is not one.
    """
    if len(values) != 2 or not 0 < values[0] <= values[1]:
        raise UserError(f"{name}: expected (low, high) with 0 < low <= high, got {values!r}")
    return float(values[0]), float(values[1])


def check_probability(name: str, value: float) -> float:
    """A number in [0, 1].

    Raises:
        UserError: it is not one.
    """
    if not 0 <= value <= 1:
        raise UserError(f"{name}: expected a probability in 0..1, got {value!r}")
    return float(value)


@register
class Resize:
    """Scale the picture to fit into ``img_scale``.

    Alone on one image this is exactly ``cv2.resize`` with INTER_LINEAR (no antialiasing; what an embedded
    program can repeat), or INTER_AREA where ``interpolation="area"`` and the image shrinks.

    Args:
        img_scale: (h, w).
        keep_ratio: the largest size inside ``img_scale`` with the image's proportions (each side rounded to the
            nearest pixel, at least 1); False: exactly ``img_scale``.
        interpolation: "linear" or "area".
        either_way: ``img_scale`` may be turned: the picture's longer side fits the longer number (MMDetection's
            ``(1333, 800)``).
    """

    def __init__(
        self,
        img_scale: tuple[int, int],
        keep_ratio: bool = True,
        interpolation: Literal["linear", "area"] = "linear",
        either_way: bool = False,
    ) -> None:
        if interpolation not in ("linear", "area"):
            raise UserError(f"Resize: interpolation must be 'linear' or 'area', got {interpolation!r}")
        self.img_scale = check_size("Resize: img_scale", img_scale)
        self.keep_ratio = keep_ratio
        self.area = interpolation == "area"
        self.either_way = either_way

    def reaches(self, reach: Reach) -> list[Reach]:
        """To the size that the canvas gets."""
        return [reach.fitted(self._limit(reach.canvas), self.keep_ratio)]

    def _limit(self, canvas: Size) -> Size:
        scale, (height, width) = self.img_scale, canvas
        return scale[::-1] if self.either_way and (height > width) != (scale[0] > scale[1]) else scale

    def __call__(self, sample: Sample, ctx: Context) -> Sample:
        return resize(sample, fit_size(sample.canvas, self._limit(sample.canvas), self.keep_ratio), self.area)


@register
class RandomResize:
    """Scale the picture to fit into ``scale`` times a random factor, the same for height and width.

    Args:
        scale: (h, w).
        ratio_range: the factor is drawn uniformly from it.
        keep_ratio: as in :class:`Resize`.
    """

    def __init__(
        self, scale: tuple[int, int], ratio_range: tuple[float, float] = (0.5, 2.0), keep_ratio: bool = True
    ) -> None:
        self.scale = check_size("RandomResize: scale", scale)
        self.ratio_range = check_range("RandomResize: ratio_range", ratio_range)
        self.keep_ratio = keep_ratio

    def reaches(self, reach: Reach) -> list[Reach]:
        """With the largest factor."""
        return [reach.fitted(self._limit(self.ratio_range[1]), self.keep_ratio)]

    def _limit(self, ratio: float) -> Size:
        return max(1, int(self.scale[0] * ratio)), max(1, int(self.scale[1] * ratio))

    def __call__(self, sample: Sample, ctx: Context) -> Sample:
        ratio = ctx.rng.uniform(*self.ratio_range)
        return resize(sample, fit_size(sample.canvas, self._limit(ratio), self.keep_ratio))


@register
class RandomCrop:
    """Cut a random window out; a side that is smaller than the window stays as it is.

    Boxes are cut at the window. Where the picture had boxes and the window has none, the sample is dropped (and
    another image is taken) unless ``allow_empty``; a picture without boxes passes.

    Args:
        crop_size: (h, w).
        allow_empty: keep windows without a box.
    """

    def __init__(self, crop_size: tuple[int, int], allow_empty: bool = False) -> None:
        self.crop_size = check_size("RandomCrop: crop_size", crop_size)
        self.allow_empty = allow_empty

    def reaches(self, reach: Reach) -> list[Reach]:
        """The same scale on a smaller canvas."""
        (height, width), (most_h, most_w) = reach.canvas, self.crop_size
        return [reach._replace(canvas=(min(height, most_h), min(width, most_w)))]

    def __call__(self, sample: Sample, ctx: Context) -> Sample | None:
        height, width = sample.canvas
        size = min(height, self.crop_size[0]), min(width, self.crop_size[1])
        y = int(ctx.rng.integers(height - size[0] + 1))
        x = int(ctx.rng.integers(width - size[1] + 1))
        had_boxes = len(sample.boxes) > 0
        clip_boxes(window(sample, x, y, size))
        sample.img_size = size
        if had_boxes and not len(sample.boxes) and not self.allow_empty and not ctx.must_keep:
            return None
        return sample


@register
class RandomFlip:
    """Mirror the picture.

    Args:
        px: probability of left-right.
        py: probability of up-down.
    """

    def __init__(self, px: float = 0.5, py: float = 0.0) -> None:
        self.px = check_probability("RandomFlip: px", px)
        self.py = check_probability("RandomFlip: py", py)

    reaches = unchanged

    def __call__(self, sample: Sample, ctx: Context) -> Sample:
        horizontal, vertical = ctx.rng.random(2) < (self.px, self.py)
        return flip(sample, bool(horizontal), bool(vertical)) if horizontal or vertical else sample


@register
class Pad:
    """Extend the picture at the right and the bottom to ``size``.

    Args:
        size: (h, w); a picture that is larger is an error.
        fill: grey level of the new pixels.
    """

    def __init__(self, size: tuple[int, int], fill: int = 114) -> None:
        self.size = check_size("Pad: size", size)
        if not 0 <= fill <= 255:
            raise UserError(f"Pad: fill must be in 0..255, got {fill!r}")
        self.fill = int(fill)

    def reaches(self, reach: Reach) -> list[Reach]:
        """The same scale on a larger canvas."""
        return [reach._replace(canvas=self.size)]

    def __call__(self, sample: Sample, ctx: Context) -> Sample:
        if sample.canvas == self.size:
            return sample
        if sample.canvas[0] > self.size[0] or sample.canvas[1] > self.size[1]:
            raise UserError(
                f"Pad: the picture has {sample.canvas} (h, w) and does not fit into size={self.size}; put a Resize "
                "or RandomCrop before it"
            )
        _keep_fill(sample, self.fill)
        sample.img_size = sample.canvas
        return window(sample, 0, 0, self.size)


def _keep_fill(sample: Sample, fill: int) -> None:
    """Change the fill level; what shows another level already is drawn first."""
    if sample.fill != fill and sample.tiles:
        from hatdet.data.transforms.render import render

        render(sample)
    sample.fill = fill


@register
class FilterBoxes:
    """Drop boxes that are too small to be seen.

    Args:
        min_size: smallest width and height in pixels of the picture.
        min_area: smallest area.
        drop_empty: drop the sample where it had boxes and none is left.
    """

    def __init__(self, min_size: float = 1.0, min_area: float = 0.0, drop_empty: bool = False) -> None:
        if min_size < 0 or min_area < 0:
            raise UserError(f"FilterBoxes: expected sizes of at least 0, got {min_size!r}, {min_area!r}")
        self.min_size = np.float32(min_size)
        self.min_area = np.float32(min_area)
        self.drop_empty = drop_empty

    reaches = unchanged

    def __call__(self, sample: Sample, ctx: Context) -> Sample | None:
        width = sample.boxes[:, 2] - sample.boxes[:, 0]
        height = sample.boxes[:, 3] - sample.boxes[:, 1]
        keep = (width >= self.min_size) & (height >= self.min_size) & (width * height >= self.min_area)
        dropped = len(keep) > 0 and not keep.any()
        sample.boxes, sample.labels = sample.boxes[keep], sample.labels[keep]
        return None if dropped and self.drop_empty and not ctx.must_keep else sample
