"""MixUp: a second image shines through (Zhang et al., https://arxiv.org/abs/1710.09412)."""

from __future__ import annotations

import cv2
import numpy as np

from hatdet.data.transforms.geometry import check_probability, check_range
from hatdet.data.transforms.reach import Reach
from hatdet.data.transforms.render import render, with_channels
from hatdet.data.transforms.sample import (
    Context,
    Sample,
    clip_boxes,
    fit_size,
    flip,
    image_sample,
    partner_age,
    partner_window,
    resize,
    window,
)
from hatdet.registry import register
from hatdet.utils.errors import UserError

MAX_DRAWS = 15
"""Attempts to find a partner with a box in view."""


@register
class MixUp:
    """Blend the picture with one of the images just before it; the boxes of both stay, with full weight.

    The partner is a raw image: scaled to fit the picture times a random factor, mirrored with ``flip_ratio``,
    and cut or padded to the picture's size at a random place. No state, as in Mosaic.

    Args:
        prob: probability of doing anything.
        max_cached: how many earlier images may be drawn from.
        random_pop: as in Mosaic.
        beta: the picture's share is drawn from Beta(beta, beta), near 0.5 for large values; None: exactly 0.5.
        ratio_range: the partner's random factor.
        flip_ratio: probability that the partner is mirrored left-right.
        pad_val: grey level around a partner that is smaller than the picture.
    """

    def __init__(
        self,
        prob: float = 0.5,
        max_cached: int = 10,
        beta: float | None = 32.0,
        ratio_range: tuple[float, float] = (0.5, 2.0),
        flip_ratio: float = 0.5,
        pad_val: int = 114,
        random_pop: bool = False,
    ) -> None:
        self.prob = check_probability("MixUp: prob", prob)
        if max_cached < 1:
            raise UserError(f"MixUp: max_cached must be at least 1, got {max_cached!r}")
        self.max_cached, self.random_pop = max_cached, random_pop
        self.window = partner_window(max_cached, random_pop)
        if beta is not None and not beta > 0:
            raise UserError(f"MixUp: beta must be positive or None, got {beta!r}")
        self.beta = beta
        self.ratio_range = check_range("MixUp: ratio_range", ratio_range)
        self.flip_ratio = check_probability("MixUp: flip_ratio", flip_ratio)
        self.pad_val = pad_val

    def reaches(self, reach: Reach) -> list[Reach]:
        """As the picture itself, and as its partner."""
        (height, width), largest = reach.canvas, self.ratio_range[1]
        partner = Reach(reach.size, reach.size).fitted((height * largest, width * largest))
        return [reach, partner._replace(canvas=reach.canvas)] if self.prob > 0 else [reach]

    def __call__(self, sample: Sample, ctx: Context) -> Sample:
        drawn = self.draw(sample, ctx)
        if drawn is None:
            return sample
        partner, share = drawn
        mixed = cv2.addWeighted(render(sample), share, render(partner), 1 - share, 0)
        image_sample(sample, with_channels(mixed))  # type: ignore[arg-type]
        return join(sample, partner)

    def draw(self, sample: Sample, ctx: Context) -> tuple[Sample, float] | None:
        """The second picture, placed on the sample's canvas, and the share of the first; None: there is no second."""
        candidates = ctx.partners.indices[: self.window]
        if ctx.rng.random() >= self.prob or not candidates:
            return None
        for _ in range(MAX_DRAWS):
            partner = ctx.partners.load(candidates[self._age(ctx.rng, len(candidates))])
            if len(partner.boxes) and len(self._place(partner, sample.canvas, ctx.rng).boxes):
                break
        else:
            return None
        return partner, 0.5 if self.beta is None else float(ctx.rng.beta(self.beta, self.beta))

    def _age(self, rng: np.random.Generator, count: int) -> int:
        if not self.random_pop:
            return int(rng.integers(count))
        return partner_age(float(rng.random()), count, self.max_cached, True)

    def _place(self, partner: Sample, canvas: tuple[int, int], rng: np.random.Generator) -> Sample:
        ratio, mirrored, at_y, at_x = rng.random(4)
        factor = self.ratio_range[0] + (self.ratio_range[1] - self.ratio_range[0]) * ratio
        resize(partner, fit_size(partner.canvas, (canvas[0] * factor, canvas[1] * factor)))
        if mirrored < self.flip_ratio:
            flip(partner, True, False)
        # The window starts inside a larger partner, and before a smaller one, which then has a margin.
        y = _offset(partner.canvas[0] - canvas[0], at_y)
        x = _offset(partner.canvas[1] - canvas[1], at_x)
        partner.fill = self.pad_val
        partner.img_size = canvas
        return clip_boxes(window(partner, x, y, canvas))


def join(sample: Sample, partner: Sample) -> Sample:
    """The sample with the boxes of both."""
    sample.boxes = np.concatenate([sample.boxes, partner.boxes])
    sample.labels = np.concatenate([sample.labels, partner.labels])
    sizes = sample.img_size, partner.img_size
    sample.img_size = max(sizes[0][0], sizes[1][0]), max(sizes[0][1], sizes[1][1])
    return sample


def _offset(spare: int, draw: float) -> int:
    """A whole number between 0 and ``spare`` (which may be negative)."""
    offset = int(draw * (abs(spare) + 1))
    return offset if spare >= 0 else -offset
