"""Mosaic: four pictures on one canvas (YOLOv4, arXiv 2004.10934), and its form that draws from a cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hatdet.data.transforms.mmdet.canvas import clip_and_filter, set_fill, uniform
from hatdet.data.transforms.mmdet.mix.partners import REACH, Partners
from hatdet.data.transforms.mmdet.resize import as_scale
from hatdet.data.transforms.sample import Context, Sample, partner_age, partner_window, resize, window
from hatdet.registry import register


@register(scope="mmdet")
class Mosaic:
    """Put the picture and three others around a random centre.

    The canvas is twice ``img_scale``. Every picture is scaled to fit into ``img_scale`` (its proportions kept) and
    touches the centre with a corner: this one top left, the others top right, bottom left, bottom right.

    Args:
        img_scale: (width, height).
        center_ratio_range: the centre, in units of ``img_scale``.
        bbox_clip_border: cut the boxes at the canvas.
        pad_val: level, or B, G, R, of what no picture covers; rounded down.
        prob: of doing anything.
        before: what the others go through first: the pipeline of the data set inside a MultiImageMixDataset.
    """

    def __init__(
        self,
        img_scale: Sequence[int] = (640, 640),
        center_ratio_range: Sequence[float] = (0.5, 1.5),
        bbox_clip_border: bool = True,
        pad_val: float | Sequence[float] = 114.0,
        prob: float = 1.0,
        before: Sequence[Callable[..., Any]] = (),
    ) -> None:
        self.img_scale = as_scale("img_scale", img_scale)
        if not 0 < center_ratio_range[0] <= center_ratio_range[1] < 2:
            raise ValueError(f"center_ratio_range is {center_ratio_range!r}; write (low, high) between 0 and 2")
        if not 0 <= prob <= 1:
            raise ValueError(f"prob is {prob!r}; it is in 0..1")
        self.center_ratio_range, self.bbox_clip_border = center_ratio_range, bbox_clip_border
        single = isinstance(pad_val, (int, float))
        self.pad_val = int(pad_val) if single else [int(level) for level in pad_val]  # type: ignore[arg-type, union-attr]
        self.prob = prob
        self.partners = Partners(REACH, before)
        self.window = self.partners.window

    def others(self, sample: Sample, ctx: Context) -> list[Sample]:
        """Three other pictures; none: the sample stays as it is."""
        return [self.partners.anyone(sample, ctx) for _ in range(3)]

    def __call__(self, sample: Sample, ctx: Context) -> Sample:
        if ctx.rng.random() > self.prob:
            return sample
        width, height = self.img_scale
        cx, cy = (int(uniform(ctx, *self.center_ratio_range) * side) for side in self.img_scale)
        others = self.others(sample, ctx)
        if not others:
            return sample
        parts = []
        for position, part in enumerate((sample, *others)):
            ratio = min(height / part.canvas[0], width / part.canvas[1])
            boxes = part.boxes * np.float32(ratio)
            resize(part, (max(1, int(part.canvas[0] * ratio)), max(1, int(part.canvas[1] * ratio))))
            part.boxes = boxes
            x = cx if position % 2 else cx - part.canvas[1]
            y = cy if position >= 2 else cy - part.canvas[0]
            set_fill(part, self.pad_val)
            parts.append(window(part, -x, -y, (2 * height, 2 * width)))
        sample.tiles = [tile for part in parts for tile in part.tiles]
        sample.boxes = np.concatenate([part.boxes for part in parts])
        sample.labels = np.concatenate([part.labels for part in parts])
        sample.img_size, sample.scale = sample.canvas, (1.0, 1.0)
        return clip_and_filter(sample, self.bbox_clip_border)


@register(scope="mmdet")
class CachedMosaic(Mosaic):
    """:class:`Mosaic` of the pictures that came just before: what MMDetection's cache holds, without a cache.

    Args:
        max_cached_images: size of that cache.
        random_pop: the cache forgets any of its pictures for a new one, not the oldest: older ones are drawn too, the
            older the less often.
        before: what stands before this transform in the pipeline: the others have gone through that.

    The other arguments are those of :class:`Mosaic`.
    """

    def __init__(
        self,
        img_scale: Sequence[int] = (640, 640),
        center_ratio_range: Sequence[float] = (0.5, 1.5),
        bbox_clip_border: bool = True,
        pad_val: float | Sequence[float] = 114.0,
        prob: float = 1.0,
        max_cached_images: int = 40,
        random_pop: bool = True,
        before: Sequence[Callable[..., Any]] = (),
    ) -> None:
        super().__init__(img_scale, center_ratio_range, bbox_clip_border, pad_val, prob, before)
        if max_cached_images < 4:
            raise ValueError(f"max_cached_images is {max_cached_images}; it must be at least 4")
        self.max_cached, self.random_pop = max_cached_images, random_pop
        self.partners = Partners(partner_window(max_cached_images, random_pop), before)
        self.window = self.partners.window

    def others(self, sample: Sample, ctx: Context) -> list[Sample]:
        """Three of the earlier pictures, any of them several times."""
        candidates = ctx.partners.indices[: self.partners.reach]
        if not candidates:
            return []
        draws = ctx.rng.random(3).tolist()
        ages = [partner_age(draw, len(candidates), self.max_cached, self.random_pop) for draw in draws]
        return [self.partners.load(candidates[age], ctx) or ctx.partners.load(candidates[age]) for age in ages]
