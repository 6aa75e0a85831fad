"""Mosaic: four images on one canvas (Bochkovskiy et al., YOLOv4, https://arxiv.org/abs/2004.10934)."""

from __future__ import annotations

import numpy as np

from hatdet.data.transforms.geometry import check_probability, check_range, check_size
from hatdet.data.transforms.reach import Reach
from hatdet.data.transforms.sample import (
    Context,
    Sample,
    clip_boxes,
    fit_size,
    partner_age,
    partner_window,
    resize,
    window,
)
from hatdet.registry import register
from hatdet.utils.errors import UserError


@register
class Mosaic:
    """Put the image and three of those just before it around a random centre.

    The canvas is twice ``img_scale``. Every image is scaled to fit into ``img_scale`` (keeping its proportions)
    and touches the centre with a corner: the current image top left, once; the others, drawn with replacement,
    top right, bottom left, bottom right. Boxes are cut at the canvas. Without any earlier image the sample
    stays as it is. No state: what is drawn depends on the sampler's order and the sample's seed alone.

    Args:
        img_scale: (h, w) that one image has to fit.
        max_cached: how many earlier images may be drawn from.
        random_pop: draw as from MMDetection's cache with random pop: from farther back too, the older the less often.
        prob: probability of doing anything.
        center_ratio_range: the centre, in units of ``img_scale``, is uniform in it.
        pad_val: grey level of what no image covers.
    """

    def __init__(
        self,
        img_scale: tuple[int, int] = (640, 640),
        max_cached: int = 20,
        prob: float = 1.0,
        center_ratio_range: tuple[float, float] = (0.5, 1.5),
        pad_val: int = 114,
        random_pop: bool = False,
    ) -> None:
        self.img_scale = check_size("Mosaic: img_scale", img_scale)
        if max_cached < 1:
            raise UserError(f"Mosaic: max_cached must be at least 1, got {max_cached!r}")
        self.max_cached, self.random_pop = max_cached, random_pop
        self.window = partner_window(max_cached, random_pop)
        self.prob = check_probability("Mosaic: prob", prob)
        self.center_ratio_range = check_range("Mosaic: center_ratio_range", center_ratio_range)
        if self.center_ratio_range[1] >= 2:
            raise UserError(f"Mosaic: center_ratio_range must stay below 2, got {center_ratio_range!r}")
        self.pad_val = pad_val

    def reaches(self, reach: Reach) -> list[Reach]:
        """On the mosaic, and alone where it is left as it is (without any earlier image too, if it is the only one)."""
        height, width = self.img_scale
        drawn = reach.fitted(self.img_scale)._replace(canvas=(2 * height, 2 * width))
        return [drawn] if self.prob == 1 else [drawn, reach]

    def __call__(self, sample: Sample, ctx: Context) -> Sample:
        candidates = ctx.partners.indices[: self.window]
        draws = ctx.rng.random(6)
        if not candidates or draws[0] >= self.prob:
            return sample
        height, width = self.img_scale
        low, high = self.center_ratio_range
        cy = int((low + (high - low) * draws[1]) * height)
        cx = int((low + (high - low) * draws[2]) * width)
        ages = [partner_age(draw, len(candidates), self.max_cached, self.random_pop) for draw in draws[3:].tolist()]
        partners = [ctx.partners.load(candidates[age]) for age in ages]
        parts = []
        for position, part in enumerate((sample, *partners)):
            resize(part, fit_size(part.canvas, self.img_scale))
            x = cx if position % 2 else cx - part.canvas[1]
            y = cy if position >= 2 else cy - part.canvas[0]
            parts.append(clip_boxes(window(part, -x, -y, (2 * height, 2 * width))))
        sample.tiles = [tile for part in parts for tile in part.tiles]
        sample.boxes = np.concatenate([part.boxes for part in parts])
        sample.labels = np.concatenate([part.labels for part in parts])
        sample.img_size = sample.canvas
        sample.scale = (1.0, 1.0)
        sample.fill = self.pad_val
        return sample
