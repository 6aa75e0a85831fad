"""RandomCenterCropPad: CornerNet's and CenterNet's crop (arXiv 1808.01244)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from hatdet.data.transforms.mmdet.canvas import centers_within, clip_and_filter, keep, set_fill
from hatdet.data.transforms.sample import Context, Sample, Size, window
from hatdet.registry import register

_ATTEMPTS, _ROUNDS = 50, 20


@register(scope="mmdet")
class RandomCenterCropPad:
    """A canvas of random size around a random point of the picture, the point in its middle; the mean around it.

    In test mode the picture goes to the middle of a canvas whose sides are rounded up; the sample's ``border`` says
    where it is.

    Args:
        crop_size: (width, height), times a number of ``ratios``; None in test mode.
        ratios: to draw from; None in test mode.
        border: how far from the picture's edges the point stays (halved until both sides fit); None in test mode.
        mean: the colour around the picture; turned where ``to_rgb``: pictures are BGR here.
        std: has no meaning here.
        to_rgb: ``mean`` is R, G, B.
        test_mode: see there.
        test_pad_mode: ("logical_or", n): each side s becomes s | n; ("size_divisor", n): the next multiple.
        test_pad_add_pix: added to the sides of "logical_or".
        bbox_clip_border: cut the boxes at the canvas.
    """

    def __init__(
        self,
        crop_size: Sequence[int] | None = None,
        ratios: Sequence[float] | None = (0.9, 1.0, 1.1),
        border: int | None = 128,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        to_rgb: bool | None = None,
        test_mode: bool = False,
        test_pad_mode: Sequence[Any] | None = ("logical_or", 127),
        test_pad_add_pix: int = 0,
        bbox_clip_border: bool = True,
    ) -> None:
        if mean is None or to_rgb is None:
            raise ValueError(f"got mean={mean!r}, to_rgb={to_rgb!r}; give both: the colour around the picture")
        if test_mode:
            if test_pad_mode is None or test_pad_mode[0] not in ("logical_or", "size_divisor"):
                raise ValueError(f"test_pad_mode is {test_pad_mode!r}; write ('logical_or', n) or ('size_divisor', n)")
        elif crop_size is None or not ratios or border is None or min(crop_size) < 1:
            raise ValueError(f"got crop_size={crop_size!r}, ratios={ratios!r}, border={border!r}; training needs them")
        self.crop_size, self.ratios, self.border = crop_size or (1, 1), ratios or (1.0,), border or 0
        self.fill = tuple(mean[::-1] if to_rgb else mean)
        self.test_mode, self.test_pad_mode, self.test_pad_add_pix = test_mode, test_pad_mode, test_pad_add_pix
        self.bbox_clip_border = bbox_clip_border

    def __call__(self, sample: Sample, ctx: Context) -> Sample:
        return self._test(sample) if self.test_mode else self._train(sample, ctx)

    def _train(self, sample: Sample, ctx: Context) -> Sample:
        height, width = sample.canvas
        margins = [margin(self.border, side) for side in (height, width)]
        for _ in range(_ROUNDS):
            scale = self.ratios[int(ctx.rng.integers(len(self.ratios)))]
            size = int(self.crop_size[1] * scale), int(self.crop_size[0] * scale)
            for _ in range(_ATTEMPTS):
                y, x = (int(ctx.rng.integers(m, side - m)) for m, side in zip(margins, (height, width), strict=True))
                patch = (
                    max(0, x - size[1] // 2), max(0, y - size[0] // 2),
                    min(x + size[1] // 2, width), min(y + size[0] // 2, height),
                )  # fmt: skip
                seen = centers_within(sample.boxes, patch)
                if seen.any() or not len(seen):
                    self._paste(keep(sample, seen), (y, x), size)
                    sample.img_size = sample.canvas
                    return clip_and_filter(sample, self.bbox_clip_border)
        return sample

    def _test(self, sample: Sample) -> Sample:
        assert self.test_pad_mode is not None
        mode, number = self.test_pad_mode
        if mode == "logical_or":
            target = [(side | int(number)) + self.test_pad_add_pix for side in sample.canvas]
        else:
            target = [-(-side // int(number)) * int(number) for side in sample.canvas]
        height, width = sample.canvas
        top, left = target[0] // 2 - height // 2, target[1] // 2 - width // 2
        self._paste(sample, (height // 2, width // 2), (target[0], target[1]))
        sample.border = (top, top + height, left, left + width)
        sample.img_size = sample.canvas
        return sample

    def _paste(self, sample: Sample, center: tuple[int, int], size: Size) -> None:
        """Make the point ``center`` (y, x) of the picture the middle of a canvas of ``size``.

        An odd side has a last row or column that the picture never reaches, as in MMDetection.
        """
        set_fill(sample, self.fill)
        half = size[0] // 2, size[1] // 2
        if not self.test_mode:
            window(sample, center[1] - half[1], center[0] - half[0], (2 * half[0], 2 * half[1]))
            window(sample, 0, 0, size)
        else:
            window(sample, center[1] - half[1], center[0] - half[0], size)


def margin(border: int, side: int) -> int:
    """``border``, halved as often as it takes for two of them to leave something of ``side``."""
    k = 2 * border / side
    power = 2.0 ** (math.ceil(math.log2(math.ceil(k))) + (k == int(k))) if k > 0 else 1.0
    return int(border // np.float64(power))
