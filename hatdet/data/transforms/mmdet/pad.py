"""Pad and Expand: room around the picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2

from hatdet.data.transforms.mmdet.canvas import set_fill, uniform
from hatdet.data.transforms.render import render, with_channels
from hatdet.data.transforms.sample import Context, Sample, image_sample, window
from hatdet.registry import register

_MODES = {
    "constant": None,
    "edge": cv2.BORDER_REPLICATE,
    "reflect": cv2.BORDER_REFLECT_101,
    "symmetric": cv2.BORDER_REFLECT,
}


@register(scope="mmdet")
class Pad:
    """Extend the picture at the right and the bottom; what is padded counts as picture from then on.

    Args:
        size: (width, height); a picture that is larger keeps that side.
        size_divisor: round both sides up to multiples.
        pad_to_square: to the longer side.
        pad_val: level, or B, G, R; or a dict with the key "img".
        padding_mode: "constant"; or the picture goes on, by its last pixel ("edge"), mirrored there without it
            ("reflect") or with it ("symmetric").
    """

    def __init__(
        self,
        size: Sequence[int] | None = None,
        size_divisor: int | None = None,
        pad_to_square: bool = False,
        pad_val: float | Sequence[float] | dict[str, Any] = 0,
        padding_mode: str = "constant",
    ) -> None:
        if (size is not None and size_divisor is not None) or (size is None and not size_divisor and not pad_to_square):
            raise ValueError(
                f"got size={size!r}, size_divisor={size_divisor!r}, pad_to_square={pad_to_square}; give one of size, "
                "size_divisor and pad_to_square"
            )
        if padding_mode not in _MODES:
            raise ValueError(f"padding_mode is {padding_mode!r}; allowed are {', '.join(_MODES)}")
        self.mode = _MODES[padding_mode]
        self.size = None if size is None else (int(size[1]), int(size[0]))
        self.size_divisor, self.pad_to_square = size_divisor, pad_to_square
        self.fill = pad_val.get("img", 0) if isinstance(pad_val, dict) else pad_val

    def __call__(self, sample: Sample, ctx: Context) -> Sample:
        height, width = sample.canvas
        if self.pad_to_square:
            height = width = max(height, width)
        if self.size is not None:
            height, width = max(height, self.size[0]), max(width, self.size[1])
        if self.size_divisor:
            height, width = (-(-side // self.size_divisor) * self.size_divisor for side in (height, width))
        if (height, width) == sample.canvas:
            sample.img_size = sample.canvas
            return sample
        if self.mode is None:
            set_fill(sample, self.fill)
            window(sample, 0, 0, (height, width))
        else:
            bottom, right = height - sample.canvas[0], width - sample.canvas[1]
            image_sample(sample, with_channels(cv2.copyMakeBorder(render(sample), 0, bottom, 0, right, self.mode)))  # type: ignore[arg-type]
        sample.img_size = sample.canvas
        return sample


@register(scope="mmdet")
class Expand:
    """Put the picture somewhere on a larger canvas of one colour (SSD, arXiv 1512.02325, "zoom out").

    Args:
        mean: the colour, rounded down, as MMDetection 3 does; its order is turned where ``to_rgb``: pictures are BGR
            here.
        to_rgb: ``mean`` is R, G, B.
        ratio_range: the canvas is the picture times a number from it.
        seg_ignore_label: has no meaning for boxes.
        prob: of doing anything.
    """

    def __init__(
        self,
        mean: Sequence[float] = (0, 0, 0),
        to_rgb: bool = True,
        ratio_range: Sequence[float] = (1, 4),
        seg_ignore_label: int | None = None,
        prob: float = 0.5,
    ) -> None:
        if len(ratio_range) != 2 or not 1 <= ratio_range[0] <= ratio_range[1]:
            raise ValueError(f"ratio_range is {ratio_range!r}; write (low, high) with 1 <= low <= high")
        self.fill = tuple(int(level) for level in (mean[::-1] if to_rgb else mean))
        self.ratio_range, self.prob = ratio_range, prob

    def __call__(self, sample: Sample, ctx: Context) -> Sample:
        if ctx.rng.random() > self.prob:
            return sample
        height, width = sample.canvas
        ratio = uniform(ctx, *self.ratio_range)
        left, top = (int(uniform(ctx, 0, side * ratio - side)) for side in (width, height))
        set_fill(sample, self.fill)
        window(sample, -left, -top, (int(height * ratio), int(width * ratio)))
        sample.img_size = sample.canvas
        return sample
