"""From the picture to the network's input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import cv2
import numpy as np
import torch

from hatdet.data.image_file import to_gray
from hatdet.data.transforms.reach import unchanged
from hatdet.data.transforms.render import render
from hatdet.data.transforms.sample import Context, Image, Sample
from hatdet.registry import register
from hatdet.utils.errors import UserError
from hatdet.utils.input_format import InputFormat, channels_of

Color = Literal["bgr", "rgb", "yuv444", "gray"]


@register
class ToTensor:
    """Draw the picture and make it a uint8 tensor (3, h, w), or (1, h, w), in channels-last memory.

    Args:
        color: of the tensor. ``bgr``; ``rgb``; ``yuv444``: see ``to_yuv``; ``gray``: one channel. Then every picture
            is turned to gray as it is decoded (:func:`~hatdet.data.image_file.to_gray`), before anything else is done
            to it, as a grayscale camera would give it. None: as the other two say, else ``bgr``.
        to_rgb: R, G, B.
        to_yuv: full-range BT.601 YUV444 as in JFIF, in integers that any device can repeat:
            Y = (1868 B + 9617 G + 4899 R + 8192) >> 14, U = 128 + ((9241 (B - Y) + 8192) >> 14),
            V = 128 + ((11682 (R - Y) + 8192) >> 14), kept in 0..255; >> rounds down. (14-bit 0.299, 0.587, 0.114;
            0.564; 0.713.)
    """

    def __init__(self, to_yuv: bool = False, to_rgb: bool = False, color: Color | None = None) -> None:
        if to_yuv + to_rgb + (color is not None) > 1:
            raise UserError("ToTensor: to_yuv, to_rgb and color exclude each other; color is enough; give color alone")
        if color not in (None, *get_args(Color)):
            raise UserError(f"ToTensor: color must be one of {', '.join(get_args(Color))}, got {color!r}")
        self.color: str = color or ("yuv444" if to_yuv else "rgb" if to_rgb else "bgr")

    reaches = unchanged

    def __call__(self, sample: Sample, ctx: Context) -> Sample:
        image = render(sample)
        if image.shape[2] != channels_of(self.color):
            raise UserError(
                f"ToTensor(color={self.color!r}): {sample.file_name} came as a picture of {image.shape[2]} channel(s), "
                f"not of {channels_of(self.color)}; mend the transforms before it, or set another color"
            )
        if self.color == "yuv444":
            y_v_u = cv2.cvtColor(image, cv2.COLOR_BGR2YCrCb)
            image = y_v_u[:, :, [0, 2, 1]]
        elif self.color == "rgb":
            image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)  # type: ignore[assignment]
        if not image.flags.writeable or not image.flags.c_contiguous:  # part of a cached image
            image = image.copy()
        sample.tensor = torch.from_numpy(image).permute(2, 0, 1)
        return sample


@register
class Normalize:
    """(x - mean) / std; stands after ToTensor.

    Pixels stay uint8 as long as they travel: a detector subtracts and divides on its own device. This transform says
    what the data set's user expects of it (``dataset.input_format``), and a model that does otherwise is refused
    before anything runs.

    Args:
        mean, std: a number, or one a channel, in levels of 0..255.
    """

    def __init__(self, mean: float | Sequence[float], std: float | Sequence[float]) -> None:
        self.mean, self.std = _channels("mean", mean), _channels("std", std)
        if not all(value > 0 for value in self.std):
            raise UserError(f"Normalize: std must be positive, got {std!r}")

    reaches = unchanged

    def __call__(self, sample: Sample, ctx: Context) -> Sample:
        if sample.tensor is None:
            raise UserError("Normalize: put ToTensor before it")
        return sample


def _channels(name: str, value: float | Sequence[float]) -> tuple[float, ...]:
    values = np.atleast_1d(np.asarray(value, np.float64))
    if values.shape not in ((1,), (3,)):
        raise UserError(f"Normalize: {name} must be a number or three, got {value!r}")
    return tuple(float(v) for v in values)


def input_format(transforms: Sequence[Callable[..., Any]]) -> InputFormat:
    """What a list of transforms makes of an image.

    Raises:
        UserError: more than one Normalize, or one of three channels for gray pictures.
    """
    tensors = [t for t in transforms if isinstance(t, ToTensor)]
    normalizations = [t for t in transforms if isinstance(t, Normalize)]
    if len(normalizations) > 1:
        raise UserError(f"transforms: {len(normalizations)} times Normalize; one is enough; remove the others")
    color = tensors[-1].color if tensors else "bgr"
    if not normalizations:
        return InputFormat(color)
    known = InputFormat(color, normalizations[0].mean, normalizations[0].std)
    if any(len(numbers) > known.channels for numbers in (normalizations[0].mean, normalizations[0].std)):
        raise UserError(f"transforms: Normalize has three numbers, but {color} pictures have one channel: write one")
    return known


def as_decoded(image: Image, transforms: Sequence[Callable[..., Any]]) -> Image:
    """A decoded picture (BGR) as the first of ``transforms`` is to get it: gray where their ToTensor says so."""
    return to_gray(image) if input_format(transforms).color == "gray" else image
