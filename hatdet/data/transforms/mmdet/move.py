"""RandomFlip and RandomShift."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hatdet.data.transforms.mmdet.canvas import clip, set_fill
from hatdet.data.transforms.sample import Context, Sample, flip, window
from hatdet.registry import register

DIRECTIONS = {"horizontal": (True, False), "vertical": (False, True), "diagonal": (True, True)}


@register(scope="mmdet")
class RandomFlip:
    """Mirror the picture.

    Args:
        prob: of flipping; a list has one number a direction. None: 0.
        direction: "horizontal", "vertical" or "diagonal" (both), or a list of them: with a single ``prob`` each of them
            gets an equal part.
        swap_seg_labels: has no meaning for boxes.
    """

    def __init__(
        self,
        prob: float | Sequence[float] | None = None,
        direction: str | Sequence[str] = "horizontal",
        swap_seg_labels: Sequence[Any] | None = None,
    ) -> None:
        directions = [direction] if isinstance(direction, str) else list(direction)
        if not directions or any(name not in DIRECTIONS for name in directions):
            raise ValueError(f"direction is {direction!r}; allowed are {', '.join(DIRECTIONS)}, or a list of them")
        if isinstance(prob, (int, float)) or prob is None:
            shares = [float(prob or 0) / len(directions)] * len(directions)
        else:
            shares = [float(share) for share in prob]
        if len(shares) != len(directions) or min(shares) < 0 or sum(shares) > 1 + 1e-6:
            raise ValueError(f"prob is {prob!r}; give a probability in 0..1, or one a direction that sum to at most 1")
        self.flips = [DIRECTIONS[name] for name in directions]
        self.limits = np.cumsum(shares)

    def __call__(self, sample: Sample, ctx: Context) -> Sample:
        chosen = int(np.searchsorted(self.limits, ctx.rng.random(), side="right"))
        return flip(sample, *self.flips[chosen]) if chosen < len(self.flips) else sample


@register(scope="mmdet")
class RandomShift:
    """Move the picture on its canvas; black comes in (YOLOF, arXiv 2103.09460).

    A shift that would leave no box larger than ``filter_thr_px`` is not done.

    Args:
        prob: of doing anything.
        max_shift_px: shifts are from minus this to one less than this.
        filter_thr_px: boxes whose width or height is not above this are dropped.
    """

    def __init__(self, prob: float = 0.5, max_shift_px: int = 32, filter_thr_px: int = 1) -> None:
        if not 0 <= prob <= 1 or max_shift_px < 0:
            raise ValueError(f"got prob={prob}, max_shift_px={max_shift_px}; prob is in 0..1, max_shift_px at least 0")
        self.prob, self.max_shift_px, self.filter_thr_px = prob, max_shift_px, filter_thr_px

    def __call__(self, sample: Sample, ctx: Context) -> Sample:
        if ctx.rng.random() >= self.prob:
            return sample
        x, y = (int(v) for v in ctx.rng.integers(-self.max_shift_px, max(self.max_shift_px, 1), 2))
        boxes = clip(sample.boxes + np.array([x, y, x, y], np.float32), sample.canvas)
        large = ((boxes[:, 2:] - boxes[:, :2]) > self.filter_thr_px).all(axis=1)
        if not large.any():
            return sample
        set_fill(sample, 0)
        window(sample, -x, -y, sample.canvas)
        sample.boxes, sample.labels = boxes[large], sample.labels[large]
        return sample
