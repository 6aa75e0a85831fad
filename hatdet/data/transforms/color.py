"""Changes of colour."""

from __future__ import annotations

import cv2
import numpy as np

from hatdet.data.transforms.render import render
from hatdet.data.transforms.sample import Context, Sample, image_sample
from hatdet.registry import register
from hatdet.utils.errors import UserError

_LEVELS = np.arange(256)


@register
class HSVRandomAug:
    """Shift hue, saturation and value, as YOLOX does (https://arxiv.org/abs/2107.08430, its code).

    Each shift is a uniform number in -delta..delta, cut to a whole number, and switched on with probability
    0.5. Hue is in OpenCV's units of two degrees (0..179) and wraps round; the others stay in 0..255.

    Args:
        hue_delta, saturation_delta, value_delta: largest shifts.
    """

    def __init__(self, hue_delta: int = 5, saturation_delta: int = 30, value_delta: int = 30) -> None:
        self.deltas = (hue_delta, saturation_delta, value_delta)
        if any(not 0 <= delta <= 255 for delta in self.deltas):
            raise UserError(f"HSVRandomAug: deltas must be in 0..255, got {self.deltas}")

    def __call__(self, sample: Sample, ctx: Context) -> Sample:
        gains = ctx.rng.uniform(-1, 1, 3) * self.deltas * ctx.rng.integers(0, 2, 3)
        hue, saturation, value = (int(gain) for gain in gains)  # int() cuts towards zero
        if not (hue or saturation or value):
            return sample
        # One table for three channels: a single pass, without the 16-bit intermediate of the formula.
        table = np.empty((1, 256, 3), np.uint8)
        table[0, :, 0] = (_LEVELS + hue) % 180
        table[0, :, 1] = (_LEVELS + saturation).clip(0, 255)
        table[0, :, 2] = (_LEVELS + value).clip(0, 255)
        hsv = cv2.cvtColor(render(sample), cv2.COLOR_BGR2HSV)
        hsv = cv2.LUT(hsv, table, dst=hsv)
        return image_sample(sample, cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR, dst=hsv))  # type: ignore[arg-type]
