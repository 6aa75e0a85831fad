"""The colour operations of AutoAugment (arXiv 1805.09501) and RandAugment (arXiv 1909.13719).

Each has a magnitude: of a level 0..10 between ``min_mag`` and ``max_mag``, or drawn between them, to one decimal.
"""

from __future__ import annotations

import math
from abc import abstractmethod

import cv2
import numpy as np
from numpy.typing import NDArray

from hatdet.data.transforms.render import render, with_channels
from hatdet.data.transforms.sample import Context, Image, Sample, image_sample
from hatdet.registry import register

MAX_LEVEL = 10
_BLUR = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float64) / 13
_LEVELS = np.arange(256)


def check_magnitude(prob: float, level: int | None, low: float, high: float, limit: float) -> None:
    """Refuse what is out of range.

    Raises:
        ValueError: with the range.
    """
    if not 0 <= prob <= 1:
        raise ValueError(f"prob is {prob!r}; it is in 0..1")
    if level is not None and not 0 <= level <= MAX_LEVEL:
        raise ValueError(f"level is {level!r}; it is in 0..{MAX_LEVEL}, or None: drawn")
    if not 0 <= low <= high <= limit:
        raise ValueError(f"got min_mag={low}, max_mag={high}; both are in 0..{limit:g}, the smaller first")


def magnitude(level: int | None, low: float, high: float, ctx: Context) -> float:
    """Of ``level``, or drawn where that is None."""
    share = float(ctx.rng.random()) if level is None else level / MAX_LEVEL
    return round(share * (high - low) + low, 1)


class Enhancement:
    """A colour operation; gray pictures pass through it as pictures whose channels are equal.

    Args:
        prob: of doing anything.
        level, min_mag, max_mag: see the module.
    """

    limit = 2.0

    def __init__(
        self, prob: float = 1.0, level: int | None = None, min_mag: float = 0.1, max_mag: float = 1.9
    ) -> None:
        check_magnitude(prob, level, min_mag, max_mag, self.limit)
        self.prob, self.level, self.range = prob, level, (min_mag, max_mag)

    def __call__(self, sample: Sample, ctx: Context) -> Sample:
        if ctx.rng.random() > self.prob:
            return sample
        mag = magnitude(self.level, *self.range, ctx)
        return image_sample(sample, with_channels(self.enhance(render(sample), mag)))

    @abstractmethod
    def enhance(self, image: Image, mag: float) -> Image:
        """A new picture (h, w, channels) of one."""


def gray_of(image: Image) -> NDArray[np.uint8]:
    """Brightness (h, w)."""
    return image[:, :, 0] if image.shape[2] == 1 else cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)  # type: ignore[return-value]


def blend(image: Image, other: NDArray[np.uint8], share: float) -> Image:
    """``share`` of the picture and the rest of the other, cut into 0..255 and rounded down."""
    mixed = cv2.addWeighted(image.astype(np.float32), share, other.astype(np.float32), 1 - share, 0)
    return np.clip(mixed, 0, 255).astype(np.uint8).reshape(image.shape)


@register(scope="mmdet")
class ColorTransform(Enhancement):
    """The base of them all; by itself it changes nothing."""

    limit = math.inf

    def enhance(self, image: Image, mag: float) -> Image:
        """The picture."""
        return image


@register(scope="mmdet")
class Color(Enhancement):
    """Saturation: the picture away from (or beyond) its gray version."""

    def enhance(self, image: Image, mag: float) -> Image:
        """A mixture of picture and gray."""
        if image.shape[2] == 1:
            return image
        gray = cv2.cvtColor(gray_of(image), cv2.COLOR_GRAY2BGR)
        return cv2.addWeighted(image, mag, gray, 1 - mag, 0)  # type: ignore[return-value]


@register(scope="mmdet")
class Brightness(Enhancement):
    """All levels times the magnitude."""

    def enhance(self, image: Image, mag: float) -> Image:
        """A mixture of picture and black."""
        return blend(image, np.zeros_like(image), mag)


@register(scope="mmdet")
class Contrast(Enhancement):
    """The picture away from its mean brightness."""

    def enhance(self, image: Image, mag: float) -> Image:
        """A mixture of picture and its mean, a whole number."""
        gray = gray_of(image)
        return blend(image, np.full_like(image, min(255, round(float(gray.sum()) / gray.size))), mag)


@register(scope="mmdet")
class Sharpness(Enhancement):
    """The picture away from a blurred version."""

    def enhance(self, image: Image, mag: float) -> Image:
        """A mixture of picture and blur."""
        return blend(image, with_channels(cv2.filter2D(image, -1, _BLUR)), mag)  # type: ignore[arg-type]


@register(scope="mmdet")
class Solarize(Enhancement):
    """Levels from the magnitude on are inverted."""

    limit = 256.0

    def __init__(
        self, prob: float = 1.0, level: int | None = None, min_mag: float = 0.0, max_mag: float = 256.0
    ) -> None:
        super().__init__(prob, level, min_mag, max_mag)

    def enhance(self, image: Image, mag: float) -> Image:
        """By a table of levels."""
        return looked_up(image, np.where(mag > _LEVELS, _LEVELS, 255 - _LEVELS))


@register(scope="mmdet")
class SolarizeAdd(Enhancement):
    """The magnitude is added to levels below 128."""

    limit = 110.0

    def __init__(
        self, prob: float = 1.0, level: int | None = None, min_mag: float = 0.0, max_mag: float = 110.0
    ) -> None:
        super().__init__(prob, level, min_mag, max_mag)

    def enhance(self, image: Image, mag: float) -> Image:
        """By a table of levels."""
        return looked_up(image, np.where(_LEVELS < 128, np.minimum(_LEVELS + mag, 255), _LEVELS))


@register(scope="mmdet")
class Posterize(Enhancement):
    """Only the highest bits stay: as many as the magnitude says, rounded up."""

    limit = 8.0

    def __init__(self, prob: float = 1.0, level: int | None = None, min_mag: float = 0.0, max_mag: float = 4.0) -> None:
        super().__init__(prob, level, min_mag, max_mag)

    def enhance(self, image: Image, mag: float) -> Image:
        """By a table of levels."""
        lost = 8 - math.ceil(mag)
        return looked_up(image, (_LEVELS >> lost) << lost)


@register(scope="mmdet")
class Equalize(Enhancement):
    """The histogram of each channel made flat."""

    def enhance(self, image: Image, mag: float) -> Image:
        """Channel by channel."""
        return per_channel(image, _equalized)


@register(scope="mmdet")
class AutoContrast(Enhancement):
    """The levels of each channel spread over 0..255."""

    def enhance(self, image: Image, mag: float) -> Image:
        """Channel by channel."""
        return per_channel(image, _spread)


@register(scope="mmdet")
class Invert(Enhancement):
    """255 minus each level."""

    def enhance(self, image: Image, mag: float) -> Image:
        """By a table of levels."""
        return looked_up(image, 255 - _LEVELS)


def looked_up(image: Image, table: NDArray[np.generic]) -> Image:
    """The picture through a table of 256 levels, rounded down."""
    return with_channels(cv2.LUT(image, table.astype(np.uint8)))  # type: ignore[arg-type]


def per_channel(image: Image, table_of: object) -> Image:
    """Each channel through the table that ``table_of`` makes of its histogram (256,); None: unchanged."""
    channels = []
    for i in range(image.shape[2]):
        channel = np.ascontiguousarray(image[:, :, i])
        table = table_of(np.bincount(channel.ravel(), minlength=256))  # type: ignore[operator]
        channels.append(channel if table is None else cv2.LUT(channel, table.astype(np.uint8)))
    return np.stack(channels, axis=2)


def _equalized(counts: NDArray[np.int64]) -> NDArray[np.int64] | None:
    used = counts[counts > 0]
    step = (int(used.sum()) - int(used[-1])) // 255
    if not step:
        return None
    table = (np.cumsum(counts) + step // 2) // step
    return np.clip(np.concatenate([[0], table[:-1]]), 0, 255)


def _spread(counts: NDArray[np.int64]) -> NDArray[np.float64] | None:
    low, high = (int(level) for level in np.flatnonzero(counts)[[0, -1]])
    if low >= high:
        return None
    scale = 255.0 / (high - low)
    return np.clip(_LEVELS * scale - low * scale, 0, 255)
