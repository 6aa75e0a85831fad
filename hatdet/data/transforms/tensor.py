"""From the picture to the network's input."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch

from hatdet.data.transforms.render import render
from hatdet.data.transforms.sample import Context, Sample
from hatdet.registry import register
from hatdet.utils.errors import UserError


@register
class ToTensor:
    """Draw the picture and make it a uint8 tensor (3, h, w) in channels-last memory.

    The channels are B, G, R, unless one of these is set:

    Args:
        to_rgb: R, G, B.
        to_yuv: full-range BT.601 YUV444 as in JFIF: Y = 0.299 R + 0.587 G + 0.114 B, U = 128 + 0.564 (B - Y),
            V = 128 + 0.713 (R - Y), rounded and kept in 0..255.
    """

    def __init__(self, to_yuv: bool = False, to_rgb: bool = False) -> None:
        if to_yuv and to_rgb:
            raise UserError("ToTensor: to_yuv and to_rgb exclude each other")
        self.to_yuv, self.to_rgb = to_yuv, to_rgb

    def __call__(self, sample: Sample, ctx: Context) -> Sample:
        image = render(sample)
        if self.to_yuv:
            y_v_u = cv2.cvtColor(image, cv2.COLOR_BGR2YCrCb)
            image = y_v_u[:, :, [0, 2, 1]]
        elif self.to_rgb:
            image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)  # type: ignore[assignment]
        if not image.flags.writeable or not image.flags.c_contiguous:  # part of a cached image
            image = image.copy()
        sample.tensor = torch.from_numpy(image).permute(2, 0, 1)
        return sample


@register
class Normalize:
    """(x - mean) / std as float32; stands after ToTensor.

    Networks of hatdet normalise uint8 input themselves, on their device; this is for those that do not.

    Args:
        mean, std: a number, or one a channel, in levels of 0..255.
    """

    def __init__(self, mean: float | Sequence[float], std: float | Sequence[float]) -> None:
        self.mean, self.std = _channels("mean", mean), _channels("std", std)
        if not bool((self.std > 0).all()):
            raise UserError(f"Normalize: std must be positive, got {std!r}")

    def __call__(self, sample: Sample, ctx: Context) -> Sample:
        if sample.tensor is None:
            raise UserError("Normalize: put ToTensor before it")
        sample.tensor = (sample.tensor.float() - self.mean) / self.std
        return sample


def _channels(name: str, value: float | Sequence[float]) -> torch.Tensor:
    values = np.atleast_1d(np.asarray(value, np.float32))
    if values.shape not in ((1,), (3,)):
        raise UserError(f"Normalize: {name} must be a number or three, got {value!r}")
    return torch.from_numpy(values).reshape(-1, 1, 1)
