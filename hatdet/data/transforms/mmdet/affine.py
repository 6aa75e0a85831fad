"""RandomAffine, and the geometry of AutoAugment: ShearX, ShearY, TranslateX, TranslateY, Rotate."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from hatdet.data.transforms.mmdet.canvas import Boxes, clip, clip_and_filter, uniform
from hatdet.data.transforms.mmdet.color.enhance import check_magnitude, magnitude
from hatdet.data.transforms.render import render, with_channels
from hatdet.data.transforms.sample import Context, Sample, Size, image_sample
from hatdet.registry import register

Matrix = NDArray[np.float32] | NDArray[np.float64]


def project(boxes: Boxes, matrix: Matrix) -> Boxes:
    """The smallest upright boxes (n, 4) around what an affine ``matrix`` (3, 3) makes of boxes (n, 4)."""
    x, y = boxes[:, [0, 2, 0, 2]], boxes[:, [1, 1, 3, 3]]
    corners = np.stack([x, y, np.ones_like(x)]).reshape(3, -1).astype(np.float32)
    moved = (matrix.astype(np.float32) @ corners).reshape(3, -1, 4)
    x, y = moved[0] / moved[2], moved[1] / moved[2]
    return np.stack([x.min(axis=1), y.min(axis=1), x.max(axis=1), y.max(axis=1)], axis=1).astype(np.float32)


def warp(sample: Sample, matrix: Matrix, size: Size, fill: Sequence[float], interpolation: int) -> Sample:
    """Draw the picture through ``matrix`` (3, 3) on a canvas of ``size`` (h, w); boxes follow, uncut."""
    colour = tuple(float(level) for level in (fill if sample.channels == 3 else fill[:1]))
    image = cv2.warpAffine(render(sample), matrix[:2].astype(np.float64), size[::-1], flags=interpolation,
                           borderValue=colour)  # fmt: skip
    image_sample(sample, with_channels(image))  # type: ignore[arg-type]
    sample.boxes = project(sample.boxes, matrix)
    sample.img_size = size
    return sample


@register(scope="mmdet")
class RandomAffine:
    """Rotate, scale, shear and shift the picture by random amounts (YOLOX, arXiv 2107.08430).

    Args:
        max_rotate_degree: either way.
        max_translate_ratio: either way, of the canvas.
        scaling_ratio_range: (low, high).
        max_shear_degree: either way, in x and y.
        border: (width, height) added at each side of the canvas; negative numbers cut.
        border_val: B, G, R of what the picture does not cover.
        bbox_clip_border: cut the boxes at the canvas.
    """

    def __init__(
        self,
        max_rotate_degree: float = 10.0,
        max_translate_ratio: float = 0.1,
        scaling_ratio_range: Sequence[float] = (0.5, 1.5),
        max_shear_degree: float = 2.0,
        border: Sequence[int] = (0, 0),
        border_val: Sequence[float] = (114, 114, 114),
        bbox_clip_border: bool = True,
    ) -> None:
        if not 0 <= max_translate_ratio <= 1:
            raise ValueError(f"max_translate_ratio is {max_translate_ratio!r}; it is in 0..1")
        if not 0 < scaling_ratio_range[0] <= scaling_ratio_range[1]:
            raise ValueError(f"scaling_ratio_range is {scaling_ratio_range!r}; write (low, high) with 0 < low <= high")
        self.rotate, self.translate, self.shear = max_rotate_degree, max_translate_ratio, max_shear_degree
        self.scaling, self.border, self.border_val = scaling_ratio_range, border, border_val
        self.bbox_clip_border = bbox_clip_border

    def __call__(self, sample: Sample, ctx: Context) -> Sample:
        height, width = sample.canvas[0] + self.border[1] * 2, sample.canvas[1] + self.border[0] * 2
        if min(height, width) < 1:
            raise ValueError(
                f"RandomAffine: border={tuple(self.border)} (width, height) leaves nothing of a picture of "
                f"{sample.canvas} (h, w); put Mosaic before it, or cut less"
            )
        warp(sample, self.matrix(width, height, ctx), (height, width), self.border_val, cv2.INTER_LINEAR)
        return clip_and_filter(sample, self.bbox_clip_border)

    def matrix(self, width: int, height: int, ctx: Context) -> Matrix:
        """From the old canvas to the new one, of (width, height): (3, 3)."""
        angle = math.radians(uniform(ctx, -self.rotate, self.rotate))
        scale = uniform(ctx, *self.scaling)
        shear_x, shear_y = (math.tan(math.radians(uniform(ctx, -self.shear, self.shear))) for _ in range(2))
        x, y = (uniform(ctx, -self.translate, self.translate) * side for side in (width, height))
        sin, cos = math.sin(angle), math.cos(angle)
        rotation = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]], np.float32)
        shear = np.array([[1, shear_x, 0], [shear_y, 1, 0], [0, 0, 1]], np.float32)
        shift = np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], np.float32)
        scaling = np.diag(np.array([scale, scale, 1], np.float32))
        return np.asarray(shift @ shear @ rotation @ scaling, np.float32)


class GeomTransform:
    """Draws the picture on a canvas of its size through a map of a random direction and a magnitude.

    Boxes are cut at the canvas; none is dropped (put FilterAnnotations after it).

    Args:
        prob: of doing anything.
        level, min_mag, max_mag: magnitude: of a level 0..10 between the two, or drawn between them.
        reversal_prob: the map goes the one way with this probability, else the other.
        img_border_value: level, or B, G, R, of what comes in.
        mask_border_value, seg_ignore_label: have no meaning for boxes.
        interpolation: of the pixels.
    """

    limit = 90.0

    def __init__(
        self,
        prob: float = 1.0,
        level: int | None = None,
        min_mag: float = 0.0,
        max_mag: float = 30.0,
        reversal_prob: float = 0.5,
        img_border_value: float | Sequence[float] = 128,
        mask_border_value: int = 0,
        seg_ignore_label: int = 255,
        interpolation: Literal["bilinear", "nearest"] = "bilinear",
    ) -> None:
        check_magnitude(prob, level, min_mag, max_mag, self.limit)
        if not 0 <= reversal_prob <= 1:
            raise ValueError(f"reversal_prob is {reversal_prob!r}; it is in 0..1")
        self.prob, self.level, self.range, self.reversal_prob = prob, level, (min_mag, max_mag), reversal_prob
        single = isinstance(img_border_value, (int, float))
        self.fill = (float(img_border_value),) * 3 if single else tuple(img_border_value)  # type: ignore[arg-type]
        self.flags = cv2.INTER_NEAREST if interpolation == "nearest" else cv2.INTER_LINEAR

    def __call__(self, sample: Sample, ctx: Context) -> Sample:
        if ctx.rng.random() > self.prob:
            return sample
        mag = magnitude(self.level, *self.range, ctx)
        if ctx.rng.random() > self.reversal_prob:
            mag = -mag
        warp(sample, self.matrix(mag, sample.canvas), sample.canvas, self.fill, self.flags)
        sample.boxes = clip(sample.boxes, sample.canvas)
        return sample

    @abstractmethod
    def matrix(self, mag: float, size: Size) -> Matrix:
        """From a canvas of ``size`` (h, w) to itself: (3, 3)."""


@register(scope="mmdet")
class ShearX(GeomTransform):
    """Rows move by the tangent of the magnitude, in degrees, times their height."""

    def matrix(self, mag: float, size: Size) -> Matrix:
        """See there."""
        return np.array([[1, math.tan(math.radians(mag)), 0], [0, 1, 0], [0, 0, 1]], np.float32)


@register(scope="mmdet")
class ShearY(GeomTransform):
    """Columns move by the tangent of the magnitude, in degrees, times their x."""

    def matrix(self, mag: float, size: Size) -> Matrix:
        """See there."""
        return np.array([[1, 0, 0], [math.tan(math.radians(mag)), 1, 0], [0, 0, 1]], np.float32)


@register(scope="mmdet")
class Rotate(GeomTransform):
    """Around the middle, by degrees."""

    limit = 180.0

    def matrix(self, mag: float, size: Size) -> Matrix:
        """See there."""
        middle = ((size[1] - 1) * 0.5, (size[0] - 1) * 0.5)
        return np.vstack([cv2.getRotationMatrix2D(middle, -mag, 1.0), [0, 0, 1]])  # float64: pixels see the difference


class _Translate(GeomTransform):
    limit = 1.0

    def __init__(
        self,
        prob: float = 1.0,
        level: int | None = None,
        min_mag: float = 0.0,
        max_mag: float = 0.1,
        reversal_prob: float = 0.5,
        img_border_value: float | Sequence[float] = 128,
        mask_border_value: int = 0,
        seg_ignore_label: int = 255,
        interpolation: Literal["bilinear", "nearest"] = "bilinear",
    ) -> None:
        super().__init__(prob, level, min_mag, max_mag, reversal_prob, img_border_value, mask_border_value,
                         seg_ignore_label, interpolation)  # fmt: skip


@register(scope="mmdet")
class TranslateX(_Translate):
    """To the right or left, by a share of the width."""

    def matrix(self, mag: float, size: Size) -> Matrix:
        """See there."""
        return np.array([[1, 0, int(size[1] * mag)], [0, 1, 0], [0, 0, 1]], np.float32)


@register(scope="mmdet")
class TranslateY(_Translate):
    """Down or up, by a share of the height."""

    def matrix(self, mag: float, size: Size) -> Matrix:
        """See there."""
        return np.array([[1, 0, 0], [0, 1, int(size[0] * mag)], [0, 0, 1]], np.float32)
