"""Anchor boxes of a pyramid."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from hatdet.models.task_modules.priors import PriorGenerator
from hatdet.registry import register


@register
class AnchorGenerator(PriorGenerator):
    """Anchors (arXiv 1708.02002, section 4): boxes around each position of a level, one for each ratio and scale.

    The anchor of ratio r and scale s at a level with base size b has the area ``(b * s) ** 2`` and height / width = r;
    its centre is ``(column + center_offset, row + center_offset) * stride``. The default offset 0 is where a position's
    receptive field is centred after 3x3 convolutions of stride 2 that are padded on both sides. Those of the first
    ratio with all scales come first, then the next ratio's.

    Args:
        feat_strides: pixels per position of each level, finest first.
        scales: factors of the base size.
        ratios: height / width.
        base_sizes: of each level, in pixels; None: the strides.
        round_anchor: the sides, relative to the centre, are rounded to whole pixels (half to even).
        center_offset: place of the centre in its cell, as a share of the stride.

    Raises:
        ValueError: another number of base sizes than of strides, an empty list, or a number that is not positive.
    """

    def __init__(
        self,
        *,
        feat_strides: Sequence[int],
        scales: Sequence[float],
        ratios: Sequence[float],
        base_sizes: Sequence[float] | None = None,
        round_anchor: bool = False,
        center_offset: float = 0.0,
    ) -> None:
        sizes = list(feat_strides if base_sizes is None else base_sizes)
        if len(sizes) != len(feat_strides):
            raise ValueError(
                f"one base size for each stride is needed, got base_sizes={sizes} for feat_strides={list(feat_strides)}"
            )
        for name, values in (("feat_strides", feat_strides), ("scales", scales), ("ratios", ratios)):
            if not values or min(values) <= 0:
                raise ValueError(f"{name} must be one or more positive numbers, got {list(values)}")
        if min(sizes) <= 0:
            raise ValueError(f"base_sizes must be positive, got {sizes}")
        base_anchors = [_base_anchors(size, scales, ratios, round_anchor) for size in sizes]
        super().__init__([int(stride) for stride in feat_strides], center_offset, base_anchors)


def _base_anchors(size: float, scales: Sequence[float], ratios: Sequence[float], rounded: bool) -> Tensor:
    """float32 (A, 4), xyxy around (0, 0)."""
    boxes = []
    for ratio in ratios:
        for scale in scales:
            width = size * scale / math.sqrt(ratio)
            height = size * scale * math.sqrt(ratio)
            boxes.append([-width / 2, -height / 2, width / 2, height / 2])
    if rounded:
        boxes = [[float(round(side)) for side in box] for box in boxes]
    return torch.tensor(boxes, dtype=torch.float32)
