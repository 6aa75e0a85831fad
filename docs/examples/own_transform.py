"""A transform of one's own: the dark corners of a cheap lens."""

from __future__ import annotations

import numpy as np

from hatdet.data.transforms.render import render
from hatdet.data.transforms.sample import Context, Sample, image_sample
from hatdet.registry import register
from hatdet.utils.errors import UserError


@register
class DarkCorners:
    """Darken a picture towards its corners, by a share that is drawn for each sample.

    Args:
        strength: (least, most) share of the light that is missing in a corner.
        prob: probability of doing anything.
    """

    def __init__(self, strength: tuple[float, float] = (0.2, 0.6), prob: float = 0.5) -> None:
        if not 0 <= strength[0] <= strength[1] <= 1:
            raise UserError(f"DarkCorners: strength is (least, most) in 0..1, got {strength}")
        self.strength, self.prob = strength, prob

    def __call__(self, sample: Sample, ctx: Context) -> Sample:
        # Always the same number of draws: what comes after does not depend on whether this did anything.
        chance, share = ctx.rng.uniform(), ctx.rng.uniform(*self.strength)
        if chance >= self.prob:
            return sample
        image = render(sample)
        height, width = image.shape[:2]
        y, x = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)[None]
        light = 1 - share * (x**2 + y**2) / 2
        return image_sample(sample, np.rint(image * light[..., None]).astype(np.uint8))
