"""From maps of corners to boxes (CornerNet, arXiv 1808.01244; CentripetalNet, arXiv 2003.09119)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hatdet.models.mmdet.heads.base import PictureMeta
from hatdet.models.mmdet.heads.keypoint.gaussian import (
    get_local_maximum,
    get_topk_from_heatmap,
    transpose_and_gather_feat,
)  # fmt: skip

LARGE = 3500
"""Area in pixels from which a box's middle counts wider."""


@dataclass
class Corners:
    """Maps of one kind of corner.

    Attributes:
        heat: (B, classes, H, W) scores.
        offset: (B, 2, H, W) from the cell.
        embedding: (B, c, H, W), or None.
        shift: (B, 2, H, W) logarithms of the way to the centre, or None.
    """

    heat: Tensor
    offset: Tensor
    embedding: Tensor | None = None
    shift: Tensor | None = None


def paired(
    first: Corners, last: Corners, metas: Sequence[PictureMeta], cfg: Mapping[str, Any], most: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The best pairs of left top corners and right bottom corners.

    Args:
        first, last: left top, right bottom.
        metas: of the pictures.
        cfg: ``corner_topk``, ``local_maximum_kernel``, ``distance_threshold``.
        most: pairs of a picture.

    Returns:
        Boxes (B, n, 4) in pixels, scores (B, n), -1 of what is no pair, and classes (B, n).
    """
    k = min(cfg.get("corner_topk", 100), first.heat[0].numel())
    height, width = first.heat.shape[2:]
    step = first.heat.new_tensor(
        [[meta["batch_input_shape"][1] / width, meta["batch_input_shape"][0] / height] for meta in metas]
    )[:, None]
    begin = first.heat.new_tensor([_begin(meta) for meta in metas])[:, None]
    sides = []
    for corners, sign in ((first, 1), (last, -1)):
        high = get_local_maximum(corners.heat, cfg.get("local_maximum_kernel", 3))
        scores, places, labels, ys, xs = get_topk_from_heatmap(high, k)
        at = torch.stack((xs, ys), dim=-1) + transpose_and_gather_feat(corners.offset, places)
        centre = None
        if corners.shift is not None:
            centre = at + sign * transpose_and_gather_feat(corners.shift, places).exp()
            centre = (centre * step - begin).clamp(min=0)
        sides.append((scores, labels, (at * step - begin).clamp(min=0), centre, places))
    (scores, labels, starts, centres, places), (other_scores, other_labels, ends, other_centres, others) = sides
    boxes = torch.cat((starts[:, :, None].expand(-1, -1, k, -1), ends[:, None].expand(-1, k, -1, -1)), dim=-1)
    good = labels[:, :, None] == other_labels[:, None]
    good = good & (boxes[..., 2:] > boxes[..., :2]).all(dim=-1)
    limit = cfg.get("distance_threshold", 0.5)
    if centres is not None:
        assert other_centres is not None
        pairs = torch.cat((centres[:, :, None].expand(-1, -1, k, -1), other_centres[:, None].expand(-1, k, -1, -1)), -1)
        good = good & _meet(boxes, pairs, limit)
    else:
        assert first.embedding is not None and last.embedding is not None
        one, two = transpose_and_gather_feat(first.embedding, places), transpose_and_gather_feat(last.embedding, others)
        good = good & ((one[:, :, None, 0] - two[:, None, :, 0]).abs() <= limit)
    mean = torch.where(good, (scores[:, :, None] + other_scores[:, None]) / 2, -1).flatten(1)
    best, index = mean.topk(min(most, mean.shape[1]))
    chosen = boxes.flatten(1, 2).gather(1, index[..., None].expand(-1, -1, 4))
    return chosen, best, labels[:, :, None].expand_as(good).flatten(1).gather(1, index)


def _begin(meta: PictureMeta) -> tuple[float, float]:
    """x, y where the picture begins in its canvas."""
    border = meta.get("border")
    return (0.0, 0.0) if border is None else (float(border[2]), float(border[0]))


def _meet(boxes: Tensor, centres: Tensor, limit: float) -> Tensor:
    """Whether both corners of boxes (..., 4) say a centre (..., 4) in the middle of the box, near each other."""
    sizes = boxes[..., 2:] - boxes[..., :2]
    area = sizes.prod(dim=-1).abs()
    part = torch.where(area > LARGE, 1 / 2.1, 1 / 2.4)
    middle, half = (boxes[..., :2] + boxes[..., 2:]) / 2, part[..., None] * sizes / 2
    low, high = middle - half, middle + half
    between = (centres[..., 2:] - centres[..., :2]).prod(dim=-1).abs()
    close = between / (high - low).prod(dim=-1).abs() <= limit
    inside = torch.ones_like(close)
    for point in (centres[..., :2], centres[..., 2:]):
        inside = inside & ((point > low) & (point < high)).all(dim=-1)
    return close & inside
