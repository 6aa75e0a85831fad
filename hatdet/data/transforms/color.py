"""Changes of colour."""

from __future__ import annotations

import cv2
import numpy as np

from hatdet.data.transforms.reach import unchanged
from hatdet.data.transforms.render import render, with_channels
from hatdet.data.transforms.sample import Context, Sample, image_sample
from hatdet.registry import register
from hatdet.utils.errors import UserError

_LEVELS = np.arange(256)


@register
class HSVRandomAug:
    """Shift hue, saturation and value, as YOLOX does (https://arxiv.org/abs/2107.08430, its code).

    Each shift is a uniform number in -delta..delta, cut to a whole number, and switched on with probability
    0.5. Hue is in OpenCV's units of two degrees (0..179) and wraps round; the others stay in 0..255.

    A gray picture has its value shifted, by the same draws.

    Args:
        hue_delta, saturation_delta, value_delta: largest shifts.
    """

    def __init__(self, hue_delta: int = 5, saturation_delta: int = 30, value_delta: int = 30) -> None:
        self.deltas = (hue_delta, saturation_delta, value_delta)
        if any(not 0 <= delta <= 255 for delta in self.deltas):
            raise UserError(f"HSVRandomAug: deltas must be in 0..255, got {self.deltas}")

    reaches = unchanged

    def draw(self, ctx: Context) -> tuple[int, int, int]:
        """The shifts of a sample: hue, saturation, value."""
        gains = ctx.rng.uniform(-1, 1, 3) * self.deltas * ctx.rng.integers(0, 2, 3)
        hue, saturation, value = (int(gain) for gain in gains)  # int() cuts towards zero
        return hue, saturation, value

    def __call__(self, sample: Sample, ctx: Context) -> Sample:
        hue, saturation, value = self.draw(ctx)
        if not (hue or saturation or value):
            return sample
        image = render(sample)
        if sample.channels == 1:
            return image_sample(sample, with_channels(cv2.add(image, (value, 0, 0, 0)))) if value else sample  # type: ignore[arg-type]
        hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
        if hue:  # a table for one channel and a saturating sum are faster than a table for three
            table = ((_LEVELS + hue) % 180).astype(np.uint8)
            cv2.insertChannel(cv2.LUT(cv2.extractChannel(hsv, 0), table), hsv, 0)
        if saturation or value:
            hsv = cv2.add(hsv, (0, saturation, value, 0), dst=hsv)
        return image_sample(sample, cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR, dst=hsv))  # type: ignore[arg-type]
