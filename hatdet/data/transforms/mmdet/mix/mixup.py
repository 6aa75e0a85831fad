"""MixUp: a second picture shines through (arXiv 1710.09412, in the form of YOLOX, 2107.08430)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hatdet.data.transforms.mmdet.canvas import clip, inside, keep, set_fill, uniform
from hatdet.data.transforms.mmdet.mix.partners import REACH, Partners
from hatdet.data.transforms.mmdet.resize import as_scale
from hatdet.data.transforms.render import render
from hatdet.data.transforms.sample import (
    Context,
    Sample,
    Size,
    flip,
    image_sample,
    partner_age,
    partner_window,
    resize,
    window,
)
from hatdet.registry import register


@register(scope="mmdet")
class MixUp:
    """Average the picture with another one; the boxes of both stay.

    The other is scaled to fit into ``img_scale``, padded to it at the right and the bottom, scaled by a random factor,
    perhaps mirrored, and cut at a random place, or padded, to the picture's size.

    Args:
        img_scale: (width, height).
        ratio_range: of the random factor.
        flip_ratio: the other is mirrored with probability ``1 - flip_ratio`` (so it is in MMDetection).
        pad_val: level, or B, G, R, of the padding.
        max_iters: draws until one has a box; without one the picture stays as it is.
        bbox_clip_border: cut the boxes at the canvas.
        before: as in Mosaic.
    """

    def __init__(
        self,
        img_scale: Sequence[int] = (640, 640),
        ratio_range: Sequence[float] = (0.5, 1.5),
        flip_ratio: float = 0.5,
        pad_val: float | Sequence[float] = 114.0,
        max_iters: int = 15,
        bbox_clip_border: bool = True,
        before: Sequence[Callable[..., Any]] = (),
    ) -> None:
        self.img_scale = as_scale("img_scale", img_scale)
        if not 0 < ratio_range[0] <= ratio_range[1]:
            raise ValueError(f"ratio_range is {ratio_range!r}; write (low, high) with 0 < low <= high")
        if not 0 <= flip_ratio <= 1:
            raise ValueError(f"flip_ratio is {flip_ratio!r}; it is in 0..1")
        self.ratio_range, self.flip_ratio, self.pad_val = ratio_range, flip_ratio, pad_val
        self.max_iters, self.bbox_clip_border = max_iters, bbox_clip_border
        self.partners = Partners(REACH, before)
        self.window = self.partners.window

    def other(self, sample: Sample, ctx: Context) -> Sample | None:
        """Another picture; None: there is none."""
        return self.partners.anyone(sample, ctx)

    def __call__(self, sample: Sample, ctx: Context) -> Sample:
        for _ in range(self.max_iters):
            other = self.other(sample, ctx)
            if other is None:
                return sample
            if len(other.boxes):
                break
        else:
            return sample
        self._place(other, sample.canvas, ctx)
        first, second = render(sample), render(other)
        image_sample(sample, first // 2 + second // 2 + (first & second & 1))  # the mean, rounded down
        sample.boxes = np.concatenate([sample.boxes, other.boxes])
        sample.labels = np.concatenate([sample.labels, other.labels])
        sample.img_size = sample.canvas
        return keep(sample, inside(sample.boxes, sample.canvas))

    def _place(self, other: Sample, canvas: Size, ctx: Context) -> None:
        """Scale, mirror and cut the other picture to ``canvas``."""
        factor = uniform(ctx, *self.ratio_range)
        mirrored = ctx.rng.random() > self.flip_ratio
        width, height = self.img_scale
        ratio = min(height / other.canvas[0], width / other.canvas[1])
        boxes = other.boxes * np.float32(ratio * factor)
        set_fill(other, self.pad_val)
        resize(other, (max(1, int(other.canvas[0] * ratio)), max(1, int(other.canvas[1] * ratio))))
        window(other, 0, 0, (height, width))
        resize(other, (max(1, int(height * factor)), max(1, int(width * factor))))
        other.boxes = clip(boxes, other.canvas) if self.bbox_clip_border else boxes
        if mirrored:
            flip(other, True, False)
        y, x = (
            int(ctx.rng.integers(side - wanted)) if side > wanted else 0
            for side, wanted in zip(other.canvas, canvas, strict=True)
        )
        window(other, x, y, canvas)
        if self.bbox_clip_border:
            other.boxes = clip(other.boxes, canvas)


@register(scope="mmdet")
class CachedMixUp(MixUp):
    """:class:`MixUp` with one of the pictures that came just before.

    Args:
        max_cached_images, random_pop, before: as in CachedMosaic.
        prob: of doing anything.

    The other arguments are those of :class:`MixUp`.
    """

    def __init__(
        self,
        img_scale: Sequence[int] = (640, 640),
        ratio_range: Sequence[float] = (0.5, 1.5),
        flip_ratio: float = 0.5,
        pad_val: float | Sequence[float] = 114.0,
        max_iters: int = 15,
        bbox_clip_border: bool = True,
        max_cached_images: int = 20,
        random_pop: bool = True,
        prob: float = 1.0,
        before: Sequence[Callable[..., Any]] = (),
    ) -> None:
        super().__init__(img_scale, ratio_range, flip_ratio, pad_val, max_iters, bbox_clip_border, before)
        if max_cached_images < 2 or not 0 <= prob <= 1:
            raise ValueError(f"got max_cached_images={max_cached_images}, prob={prob}; at least 2, and in 0..1")
        self.max_cached, self.random_pop, self.prob = max_cached_images, random_pop, prob
        self.partners = Partners(partner_window(max_cached_images, random_pop), before)
        self.window = self.partners.window

    def __call__(self, sample: Sample, ctx: Context) -> Sample:
        return sample if ctx.rng.random() > self.prob else super().__call__(sample, ctx)

    def other(self, sample: Sample, ctx: Context) -> Sample | None:
        """One of the earlier pictures."""
        candidates = ctx.partners.indices[: self.partners.reach]
        if not candidates:
            return None
        age = partner_age(float(ctx.rng.random()), len(candidates), self.max_cached, self.random_pop)
        return self.partners.load(candidates[age], ctx) or ctx.partners.load(candidates[age])
