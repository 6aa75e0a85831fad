"""PhotoMetricDistortion, YOLOXHSVRandomAug and RandomGrayscale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from hatdet.data.transforms.color import HSVRandomAug
from hatdet.data.transforms.mmdet.canvas import uniform
from hatdet.data.transforms.render import render
from hatdet.data.transforms.sample import Context, Image, Sample, image_sample
from hatdet.registry import register


@register(scope="mmdet")
class YOLOXHSVRandomAug(HSVRandomAug):
    """Shift hue, saturation and value: :class:`~hatdet.data.transforms.color.HSVRandomAug` by MMDetection's name."""


@register(scope="mmdet")
class PhotoMetricDistortion:
    """Brightness, contrast, saturation, hue and order of channels, each with probability 0.5 (SSD, arXiv 1512.02325).

    Contrast comes before saturation and hue, or after them, with equal probability. Computed in float32 and rounded
    once, into 0..255 (MMDetection lets the float values go on, beyond that range too). Of gray pictures brightness and
    contrast are changed.

    Args:
        brightness_delta: largest shift of all levels.
        contrast_range, saturation_range: of the factors.
        hue_delta: largest shift, in degrees.
    """

    def __init__(
        self,
        brightness_delta: int = 32,
        contrast_range: Sequence[float] = (0.5, 1.5),
        saturation_range: Sequence[float] = (0.5, 1.5),
        hue_delta: int = 18,
    ) -> None:
        for name, values in (("contrast_range", contrast_range), ("saturation_range", saturation_range)):
            if len(values) != 2 or not 0 <= values[0] <= values[1]:
                raise ValueError(f"{name} is {values!r}; write (low, high) with 0 <= low <= high")
        self.brightness_delta, self.hue_delta = brightness_delta, hue_delta
        self.contrast_range, self.saturation_range = contrast_range, saturation_range

    def __call__(self, sample: Sample, ctx: Context) -> Sample:
        late, brighten, contrast, saturate, turn, swap = (bool(flag) for flag in ctx.rng.integers(0, 2, 6))
        shift = uniform(ctx, -self.brightness_delta, self.brightness_delta)
        factor = uniform(ctx, *self.contrast_range)
        saturation = uniform(ctx, *self.saturation_range) if saturate else 1.0
        hue = uniform(ctx, -self.hue_delta, self.hue_delta) if turn else 0.0
        order = ctx.rng.permutation(3)
        if not (brighten or contrast or saturate or turn or swap):
            return sample
        image = render(sample).astype(np.float32)
        if brighten:
            image += np.float32(shift)
        if contrast and not late:
            image *= np.float32(factor)
        if sample.channels == 3 and (saturate or turn):
            image = turned(image, saturation, hue)
        if contrast and late:
            image *= np.float32(factor)
        if swap and sample.channels == 3:
            image = image[:, :, order]
        return image_sample(sample, rounded(image))


@register(scope="mmdet")
class RandomGrayscale:
    """The channels' weighted mean, rounded down, in the place of each of them.

    Args:
        prob: of doing anything.
        keep_channels: must be True: the pictures of a batch have equally many channels.
        channel_weights: of B, G, R; divided by their sum.
        color_format: "bgr" or "rgb", which mean the same here.
    """

    def __init__(
        self,
        prob: float = 0.1,
        keep_channels: bool = False,
        channel_weights: Sequence[float] = (1.0, 1.0, 1.0),
        color_format: Literal["bgr", "rgb"] = "bgr",
    ) -> None:
        if not 0 <= prob <= 1:
            raise ValueError(f"prob is {prob!r}; it is in 0..1")
        if not keep_channels:
            raise ValueError("keep_channels is False, and a batch cannot have pictures of 1 and of 3 channels; set it")
        if len(channel_weights) != 3 or min(channel_weights) < 0 or not sum(channel_weights):
            raise ValueError(f"channel_weights is {channel_weights!r}; give three weights of at least 0, not all 0")
        if color_format not in ("bgr", "rgb"):
            raise ValueError(f"color_format is {color_format!r}; pictures here are 'bgr'")
        self.prob, self.weights = prob, np.array(channel_weights) / sum(channel_weights)

    def __call__(self, sample: Sample, ctx: Context) -> Sample:
        if ctx.rng.random() >= self.prob or sample.channels == 1:
            return sample
        gray = (self.weights * render(sample)).sum(axis=2).astype(np.uint8)
        return image_sample(sample, np.repeat(gray[:, :, None], 3, axis=2))


def turned(image: NDArray[np.float32], saturation: float, hue: float) -> NDArray[np.float32]:
    """BGR levels (h, w, 3), float32, with their saturation times a factor and their hue shifted by degrees."""
    hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
    if saturation != 1:
        hsv[:, :, 1] *= np.float32(saturation)
        if saturation > 1:
            np.clip(hsv[:, :, 1], 0, 1, out=hsv[:, :, 1])
    if hue:
        hsv[:, :, 0] += np.float32(hue)
        hsv[:, :, 0][hsv[:, :, 0] > 360] -= 360
        hsv[:, :, 0][hsv[:, :, 0] < 0] += 360
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)  # type: ignore[return-value]


def rounded(image: NDArray[np.float32]) -> Image:
    """Float levels as uint8, to the nearest in 0..255."""
    return np.ascontiguousarray(np.clip(np.rint(image), 0, 255).astype(np.uint8))
