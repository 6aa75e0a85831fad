"""CopyPaste: objects of another picture on this one (arXiv 2012.07177), by their boxes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hatdet.data.transforms.mmdet.canvas import clip, pixels
from hatdet.data.transforms.mmdet.mix.partners import REACH, Partners
from hatdet.data.transforms.render import render
from hatdet.data.transforms.sample import Context, Sample, image_sample, window
from hatdet.registry import register


@register(scope="mmdet")
class CopyPaste:
    """Paste what boxes of another picture show over this one, at the same place.

    What is covered shrinks to what is left to be seen; it stays where each of its sides moved by at most
    ``bbox_occluded_thr``, or more than ``mask_occluded_thr`` pixels are left.

    Args:
        max_num_pasted: objects at most, exclusive.
        bbox_occluded_thr, mask_occluded_thr: see there.
        selected: a random part of the objects; False: all.
        paste_by_box: must be True: there are no masks here.
        before: as in Mosaic.
    """

    def __init__(
        self,
        max_num_pasted: int = 100,
        bbox_occluded_thr: int = 10,
        mask_occluded_thr: int = 300,
        selected: bool = True,
        paste_by_box: bool = False,
        before: Sequence[Callable[..., Any]] = (),
    ) -> None:
        if not paste_by_box:
            raise ValueError("paste_by_box is False, and there are no masks here; set paste_by_box=True")
        if max_num_pasted < 1:
            raise ValueError(f"max_num_pasted is {max_num_pasted}; it must be at least 1")
        self.max_num_pasted, self.selected = max_num_pasted, selected
        self.bbox_occluded_thr, self.mask_occluded_thr = bbox_occluded_thr, mask_occluded_thr
        self.partners = Partners(REACH, before)
        self.window = self.partners.window

    def __call__(self, sample: Sample, ctx: Context) -> Sample:
        other = self.partners.anyone(sample, ctx)
        count = len(other.boxes)
        chosen = np.arange(count)
        if self.selected:
            number = int(ctx.rng.integers(min(count + 1, self.max_num_pasted)))
            chosen = ctx.rng.permutation(count)[:number]
        if not len(chosen):
            return sample
        window(other, 0, 0, sample.canvas)
        pasted = clip(other.boxes[chosen], sample.canvas)
        cover = np.zeros(sample.canvas, bool)
        for x1, y1, x2, y2 in whole(pasted):
            cover[y1:y2, x1:x2] = True
        image = pixels(sample)
        image[cover] = render(other)[cover]
        stays, left = self._left(sample, cover)
        image_sample(sample, image)
        sample.boxes = np.concatenate([left[stays], pasted])
        sample.labels = np.concatenate([sample.labels[stays], other.labels[chosen]])
        return sample

    def _left(self, sample: Sample, cover: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """Which boxes stay, and what is left of each (n, 4)."""
        left = np.zeros_like(sample.boxes)
        areas = np.zeros(len(left), np.int64)
        for i, (x1, y1, x2, y2) in enumerate(whole(sample.boxes)):
            seen = ~cover[y1:y2, x1:x2]
            areas[i] = seen.sum()
            if areas[i]:
                rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
                left[i] = x1 + columns[0], y1 + rows[0], x1 + columns[-1] + 1, y1 + rows[-1] + 1
        moved = np.abs(left - sample.boxes)
        return (moved <= self.bbox_occluded_thr).all(axis=1) | (areas > self.mask_occluded_thr), left


def whole(boxes: NDArray[np.float32]) -> list[list[int]]:
    """The pixels (x1, y1, x2, y2) that boxes (n, 4) cover: edges are rounded down, as MMDetection's."""
    cut: list[list[int]] = np.maximum(boxes, 0).astype(int).tolist()
    return cut
