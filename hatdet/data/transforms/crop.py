"""Crops for classification: a random part of the picture in training, its middle in validation."""

from __future__ import annotations

import math

import numpy as np

from hatdet.data.transforms.geometry import check_range, check_size
from hatdet.data.transforms.sample import Context, Sample, resize, window
from hatdet.registry import register

_ATTEMPTS = 10


@register
class RandomResizedCrop:
    """Cut a window of random area and proportions out and scale it to ``size`` (arXiv 1409.4842, section 6).

    Args:
        size: (h, w) of the result.
        area_range: of the window, as a share of the picture.
        ratio_range: width over height of the window.
    """

    def __init__(
        self,
        size: tuple[int, int],
        area_range: tuple[float, float] = (0.08, 1.0),
        ratio_range: tuple[float, float] = (3 / 4, 4 / 3),
    ) -> None:
        self.size = check_size("RandomResizedCrop: size", size)
        self.area_range = check_range("RandomResizedCrop: area_range", area_range)
        self.ratio_range = check_range("RandomResizedCrop: ratio_range", ratio_range)

    def __call__(self, sample: Sample, ctx: Context) -> Sample:
        height, width = self._window(sample.canvas, ctx)
        y = int(ctx.rng.integers(sample.canvas[0] - height + 1))
        x = int(ctx.rng.integers(sample.canvas[1] - width + 1))
        window(sample, x, y, (height, width))
        return _whole(resize(sample, self.size))

    def _window(self, canvas: tuple[int, int], ctx: Context) -> tuple[int, int]:
        """(h, w); the largest centred shape where ten draws do not fit."""
        low, high = (math.log(r) for r in self.ratio_range)
        for _ in range(_ATTEMPTS):
            area = ctx.rng.uniform(*self.area_range) * canvas[0] * canvas[1]
            ratio = math.exp(ctx.rng.uniform(low, high))
            height, width = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
            if 0 < height <= canvas[0] and 0 < width <= canvas[1]:
                return height, width
        return canvas


@register
class CenterCrop:
    """Scale the shorter side to ``resize`` and cut the middle of ``size`` out.

    Args:
        size: (h, w) of the result.
        resize: shorter side before the cut, in pixels; at least the larger number of ``size``.

    Raises:
        UserError: a size that is not one; ValueError: ``resize`` is smaller than ``size``.
    """

    def __init__(self, size: tuple[int, int], resize: int = 256) -> None:
        self.size = check_size("CenterCrop: size", size)
        if resize < max(self.size):
            raise ValueError(f"CenterCrop: resize={resize} is smaller than size={self.size}")
        self.resize = int(resize)

    def __call__(self, sample: Sample, ctx: Context) -> Sample:
        height, width = sample.canvas
        scale = self.resize / min(height, width)
        resize(sample, (max(self.resize, round(height * scale)), max(self.resize, round(width * scale))))
        y, x = ((side - wanted) // 2 for side, wanted in zip(sample.canvas, self.size, strict=True))
        window(sample, x, y, self.size)
        sample.img_size = self.size
        return _whole(sample)


def _whole(sample: Sample) -> Sample:
    """The class is that of the picture, wherever it was cut: its box becomes the canvas."""
    height, width = sample.canvas
    sample.boxes = np.tile(np.array([0, 0, width, height], np.float32), (len(sample.labels), 1))
    return sample
