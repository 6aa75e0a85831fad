"""Resize in all its forms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import cv2
import numpy as np

from hatdet.data.transforms.mmdet.canvas import clip, fit, rescale_size
from hatdet.data.transforms.mmdet.pad import Pad
from hatdet.data.transforms.render import render, with_channels
from hatdet.data.transforms.sample import Context, Sample, Size, image_sample, resize
from hatdet.registry import register

Backend = Literal["cv2", "pillow"]
Interpolation = Literal["bilinear", "area", "nearest", "bicubic", "lanczos"]
Resizer = Literal["Resize", "FixScaleResize", "mmdet.Resize", "mmdet.FixScaleResize"]
Scale = int | Sequence[int]
_DRAWN_AT_ONCE = {"nearest": cv2.INTER_NEAREST, "bicubic": cv2.INTER_CUBIC, "lanczos": cv2.INTER_LANCZOS4}
"""Interpolations that a picture is drawn with when it is resized; the others wait until pixels are needed."""


def as_scale(name: str, scale: Scale) -> tuple[int, int]:
    """(width, height); one number stands for both.

    Raises:
        ValueError: it is not one or two whole numbers of at least 1.
    """
    pair = (scale, scale) if isinstance(scale, int) else tuple(scale)
    if len(pair) != 2 or any(int(side) != side or side < 1 for side in pair):
        raise ValueError(f"{name}: got {scale!r}; write (width, height) in whole pixels of at least 1")
    return int(pair[0]), int(pair[1])


@register(scope="mmdet")
class Resize:
    """Scale the picture.

    Args:
        scale: (width, height); a single number is both.
        scale_factor: in the place of ``scale``: of the picture's own size, one number or (x, y).
        keep_ratio: the picture keeps its proportions: its longer side fits the longer number of ``scale`` and its
            shorter side the shorter. False: exactly ``scale``.
        clip_object_border: cut the boxes at the picture.
        backend: "pillow" means antialiased where the picture shrinks; here INTER_AREA, which averages likewise.
        interpolation: "bilinear", "area", "nearest", "bicubic" or "lanczos", as OpenCV has them.
    """

    def __init__(
        self,
        scale: int | Sequence[int] | None = None,
        scale_factor: float | Sequence[float] | None = None,
        keep_ratio: bool = False,
        clip_object_border: bool = True,
        backend: Backend = "cv2",
        interpolation: Interpolation = "bilinear",
    ) -> None:
        if (scale is None) == (scale_factor is None):
            raise ValueError(f"got scale={scale!r} and scale_factor={scale_factor!r}; give one of them")
        if interpolation not in get_args(Interpolation):
            allowed = ", ".join(get_args(Interpolation))
            raise ValueError(f"interpolation is {interpolation!r}; allowed are {allowed}")
        self.scale = None if scale is None else as_scale("scale", scale)
        factors = (1.0, 1.0) if scale_factor is None else np.broadcast_to(np.asarray(scale_factor, float), 2)
        self.scale_factor = float(factors[0]), float(factors[1])
        if min(self.scale_factor) <= 0:
            raise ValueError(f"scale_factor is {scale_factor!r}; it must be above 0")
        self.keep_ratio, self.clip_object_border = keep_ratio, clip_object_border
        self.area = interpolation == "area" or (backend == "pillow" and interpolation == "bilinear")
        self.flag = _DRAWN_AT_ONCE.get(interpolation)
        self.enlarged = cv2.INTER_AREA if interpolation == "area" else self.flag

    def __call__(self, sample: Sample, ctx: Context) -> Sample:
        scale = self.scale or tuple(
            max(1, int(side * factor + 0.5)) for side, factor in zip(sample.canvas[::-1], self.scale_factor)
        )
        return self.to(sample, scale)

    def to(self, sample: Sample, scale: Sequence[int]) -> Sample:
        """Resize to ``scale`` (width, height)."""
        return self.to_size(sample, self.kept(sample.canvas, scale) if self.keep_ratio else (scale[1], scale[0]))

    def to_size(self, sample: Sample, size: Size) -> Sample:
        """Resize to exactly ``size`` (h, w)."""
        image = None
        flag = self.enlarged if size[0] >= sample.canvas[0] and size[1] >= sample.canvas[1] else self.flag
        if flag is not None and size != sample.canvas:
            image = cv2.resize(render(sample), size[::-1], interpolation=flag)
        resize(sample, size, self.area)
        if image is not None:
            image_sample(sample, with_channels(image))  # type: ignore[arg-type]
        if self.clip_object_border:
            sample.boxes = clip(sample.boxes, size)
        return sample

    def kept(self, size: Size, scale: Sequence[int]) -> Size:
        """(h, w) of a picture of ``size`` that keeps its proportions inside ``scale``: rounded to the nearest."""
        return rescale_size(size, scale)


@register(scope="mmdet")
class FixScaleResize(Resize):
    """:class:`Resize` that rounds the sides down where it keeps the proportions."""

    def kept(self, size: Size, scale: Sequence[int]) -> Size:
        """See there."""
        factor = fit(size, scale)
        return max(1, int(size[0] * factor)), max(1, int(size[1] * factor))


def _resizer(kind: Resizer, scale: Scale, *options: Any) -> Resize:
    if kind not in get_args(Resizer):
        raise ValueError(f"resize_type is {kind!r}; allowed are 'Resize' and 'FixScaleResize'")
    made = FixScaleResize if kind.endswith("FixScaleResize") else Resize
    return made(scale, None, *options)


@register(scope="mmdet")
class RandomResize:
    """Resize to a random scale.

    Args:
        scale: (width, height), multiplied by a number from ``ratio_range``; or two of them: the longer and the shorter
            number are drawn, each for itself, between the two.
        ratio_range: (low, high).
        resize_type: the class that resizes: "Resize" or "FixScaleResize".
        keep_ratio, clip_object_border, backend, interpolation: as in :class:`Resize`.
    """

    def __init__(
        self,
        scale: Sequence[int] | Sequence[Sequence[int]],
        ratio_range: Sequence[float] | None = None,
        resize_type: Resizer = "Resize",
        keep_ratio: bool = False,
        clip_object_border: bool = True,
        backend: Backend = "cv2",
        interpolation: Interpolation = "bilinear",
    ) -> None:
        pairs = [scale] if isinstance(scale[0], int) else list(scale)
        self.scales = [as_scale("scale", pair) for pair in pairs]  # type: ignore[arg-type]
        if len(self.scales) != (1 if ratio_range is not None else 2):
            raise ValueError(
                f"got scale={scale!r} with ratio_range={ratio_range!r}; give one (width, height) with ratio_range, or "
                "two without"
            )
        if ratio_range is not None and not 0 < ratio_range[0] <= ratio_range[1]:
            raise ValueError(f"ratio_range is {ratio_range!r}; write (low, high) with 0 < low <= high")
        self.ratio_range = ratio_range
        self.resize = _resizer(resize_type, self.scales[0], keep_ratio, clip_object_border, backend, interpolation)

    def __call__(self, sample: Sample, ctx: Context) -> Sample:
        if self.ratio_range is not None:
            low, high = self.ratio_range
            ratio = float(ctx.rng.random()) * (high - low) + low
            scale = [max(1, int(side * ratio)) for side in self.scales[0]]
        else:
            longer, shorter = [max(s) for s in self.scales], [min(s) for s in self.scales]
            scale = [int(ctx.rng.integers(min(sides), max(sides) + 1)) for sides in (longer, shorter)]
        return self.resize.to(sample, scale)


@register(scope="mmdet")
class RandomChoiceResize:
    """Resize to one of several scales.

    Args:
        scales: (width, height) each, or one number.
        resize_type, keep_ratio, clip_object_border, backend, interpolation: as in :class:`RandomResize`.
    """

    def __init__(
        self,
        scales: Sequence[int] | Sequence[Sequence[int]],
        resize_type: Resizer = "Resize",
        keep_ratio: bool = False,
        clip_object_border: bool = True,
        backend: Backend = "cv2",
        interpolation: Interpolation = "bilinear",
    ) -> None:
        if not scales:
            raise ValueError("scales is empty; give at least one (width, height)")
        self.scales = [as_scale("scales", scale) for scale in scales]
        self.resize = _resizer(resize_type, self.scales[0], keep_ratio, clip_object_border, backend, interpolation)

    def __call__(self, sample: Sample, ctx: Context) -> Sample:
        return self.resize.to(sample, self.scales[int(ctx.rng.integers(len(self.scales)))])


@register(scope="mmdet")
class FixShapeResize:
    """Resize to exactly (width, height).

    Args:
        width, height: in pixels.
        pad_val: level of the padding, see :class:`Pad`.
        keep_ratio: the picture keeps its proportions, is not turned, and is padded at the right and the bottom.
        clip_object_border, backend, interpolation: as in :class:`Resize`.
    """

    def __init__(
        self,
        width: int,
        height: int,
        pad_val: float | Sequence[float] | dict[str, Any] = 0,
        keep_ratio: bool = False,
        clip_object_border: bool = True,
        backend: Backend = "cv2",
        interpolation: Interpolation = "bilinear",
    ) -> None:
        self.size = as_scale("(width, height)", (width, height))
        self.keep_ratio = keep_ratio
        self.resize = Resize(self.size, None, False, clip_object_border, backend, interpolation)
        self.pad = Pad(size=self.size, pad_val=pad_val)

    def __call__(self, sample: Sample, ctx: Context) -> Sample:
        if not self.keep_ratio:
            return self.resize.to(sample, self.size)
        height, width = sample.canvas
        factor = min(self.size[0] / width, self.size[1] / height)
        boxes, scale = sample.boxes * np.float32(factor), (sample.scale[0] * factor, sample.scale[1] * factor)
        wanted = max(1, int(height * factor + 0.5)), max(1, int(width * factor + 0.5))
        self.resize.to_size(sample, rescale_size(sample.canvas, wanted))
        # Boxes grow by the factor itself, not by that of the rounded sides.
        sample.boxes, sample.scale = clip(boxes, sample.canvas) if self.resize.clip_object_border else boxes, scale
        return self.pad(sample, ctx)


@register(scope="mmdet")
class ResizeShortestEdge:
    """Scale the shorter side to ``scale``, the longer one at most to ``max_size`` (detectron2's rule).

    Args:
        scale: pixels; of two numbers the smaller.
        max_size: None: no limit.
        resize_type, keep_ratio, clip_object_border, backend, interpolation: as in :class:`RandomResize`.
    """

    def __init__(
        self,
        scale: int | Sequence[int],
        max_size: int | None = None,
        resize_type: Resizer = "Resize",
        keep_ratio: bool = False,
        clip_object_border: bool = True,
        backend: Backend = "cv2",
        interpolation: Interpolation = "bilinear",
    ) -> None:
        self.shorter = min(as_scale("scale", scale))
        self.max_size = max_size
        self.resize = _resizer(resize_type, self.shorter, keep_ratio, clip_object_border, backend, interpolation)

    def __call__(self, sample: Sample, ctx: Context) -> Sample:
        height, width = sample.canvas
        factor = self.shorter / min(height, width)
        sides = [self.shorter if side == min(height, width) else factor * side for side in (width, height)]
        if self.max_size is not None and max(sides) > self.max_size:
            factor = self.max_size / max(sides)
            sides = [side * factor for side in sides]
        return self.resize.to(sample, [max(1, int(side + 0.5)) for side in sides])
