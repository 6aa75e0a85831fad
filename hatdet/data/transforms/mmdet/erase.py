"""CutOut and RandomErasing: patches of one colour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hatdet.data.transforms.mmdet.canvas import keep, pixels
from hatdet.data.transforms.sample import Context, Sample, image_sample
from hatdet.registry import register

Counts = int | Sequence[int]


def _counts(name: str, value: Counts) -> tuple[int, int]:
    low, high = _range(name, value)
    return int(low), int(high)


def _range(name: str, value: float | Sequence[float]) -> tuple[float, float]:
    low, high = (value, value) if isinstance(value, (int, float)) else value
    if not 0 <= low <= high:
        raise ValueError(f"{name} is {value!r}; write a number, or (low, high) with 0 <= low <= high")
    return low, high


@register(scope="mmdet")
class CutOut:
    """Erase rectangles, whatever they cover (arXiv 1708.04552).

    Args:
        n_holes: how many, or (least, most).
        cutout_shape: (width, height) in pixels, or a list of them to draw from.
        cutout_ratio: in its place: shares of the picture's (width, height), or a list.
        fill_in: B, G, R.
    """

    def __init__(
        self,
        n_holes: Counts,
        cutout_shape: Sequence[int] | Sequence[Sequence[int]] | None = None,
        cutout_ratio: Sequence[float] | Sequence[Sequence[float]] | None = None,
        fill_in: Sequence[float] = (0, 0, 0),
    ) -> None:
        if (cutout_shape is None) == (cutout_ratio is None):
            raise ValueError(f"got cutout_shape={cutout_shape!r} and cutout_ratio={cutout_ratio!r}; give one of them")
        self.n_holes = _counts("n_holes", n_holes)
        given = cutout_shape if cutout_ratio is None else cutout_ratio
        assert given is not None
        self.candidates: list[Any] = [given] if isinstance(given[0], (int, float)) else list(given)
        self.with_ratio, self.fill_in = cutout_ratio is not None, fill_in

    def __call__(self, sample: Sample, ctx: Context) -> Sample:
        count = int(ctx.rng.integers(self.n_holes[0], self.n_holes[1] + 1))
        if not count:
            return sample
        image = pixels(sample)
        height, width = sample.canvas
        units = (width, height) if self.with_ratio else (1, 1)
        for _ in range(count):
            x, y = int(ctx.rng.integers(width)), int(ctx.rng.integers(height))
            hole = self.candidates[int(ctx.rng.integers(len(self.candidates)))]
            hole_w, hole_h = (int(side * unit) for side, unit in zip(hole, units, strict=True))
            image[y : y + hole_h, x : x + hole_w] = self.fill_in[: sample.channels]
        return image_sample(sample, image)


@register(scope="mmdet")
class RandomErasing:
    """Erase rectangles, and drop the boxes that are mostly erased (arXiv 1708.04896).

    Args:
        n_patches: how many, or (least, most).
        ratio: of the picture's sides, or (least, most).
        squared: the same share of both sides.
        bbox_erased_thr: a box stays as long as less than this share of it is erased (overlaps count twice).
        img_border_value: level, or B, G, R.
        mask_border_value, seg_ignore_label: have no meaning for boxes.
    """

    def __init__(
        self,
        n_patches: Counts,
        ratio: float | Sequence[float],
        squared: bool = True,
        bbox_erased_thr: float = 0.9,
        img_border_value: float | Sequence[float] = 128,
        mask_border_value: int = 0,
        seg_ignore_label: int = 255,
    ) -> None:
        self.n_patches, self.ratio = _counts("n_patches", n_patches), _range("ratio", ratio)
        if self.ratio[1] > 1:
            raise ValueError(f"ratio is {ratio!r}; it is a share, at most 1")
        self.squared, self.bbox_erased_thr = squared, bbox_erased_thr
        single = isinstance(img_border_value, (int, float))
        self.fill = (img_border_value,) * 3 if single else tuple(img_border_value)  # type: ignore[arg-type]

    def __call__(self, sample: Sample, ctx: Context) -> Sample:
        count = int(ctx.rng.integers(self.n_patches[0], self.n_patches[1] + 1))
        if not count:
            return sample
        image = pixels(sample)
        patches = np.array([self._patch(sample.canvas, ctx) for _ in range(count)])
        for x1, y1, x2, y2 in patches:
            image[y1:y2, x1:x2] = self.fill[: sample.channels]
        image_sample(sample, image)
        boxes = sample.boxes[:, None]
        sides = np.minimum(boxes[..., 2:], patches[:, 2:]) - np.maximum(boxes[..., :2], patches[:, :2])
        erased = np.maximum(sides, 0).prod(axis=-1).sum(axis=1)
        areas = (sample.boxes[:, 2:] - sample.boxes[:, :2]).prod(axis=1)
        return keep(sample, erased / (areas + 1e-7) < self.bbox_erased_thr)

    def _patch(self, canvas: tuple[int, int], ctx: Context) -> tuple[int, int, int, int]:
        low, high = self.ratio
        shares = ctx.rng.random(2) * (high - low) + low
        height, width = int(canvas[0] * shares[0]), int(canvas[1] * shares[0 if self.squared else 1])
        x, y = int(ctx.rng.integers(max(1, canvas[1] - width))), int(ctx.rng.integers(max(1, canvas[0] - height)))
        return x, y, x + width, y + height
