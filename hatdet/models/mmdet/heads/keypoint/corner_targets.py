"""What maps of corners learn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hatdet.models.mmdet.heads.base import Truth
from hatdet.models.mmdet.heads.keypoint.gaussian import gaussian_radius, gen_gaussian_target, last_at


@dataclass
class CornerTargets:
    """Of one kind of corner.

    Attributes:
        heat: (B, classes, H, W).
        values: (B, 6, H, W) at corners: offset from the cell (x, y), shift to the centre of the box (x, y; for right
            bottom corners from it), logarithms of half the width and height; 0 elsewhere.
        known: (B, 1, H, W): 1 at corners.
        cells: int64 (m, 2) x, y of the corners of all pictures.
    """

    heat: Tensor
    values: Tensor
    known: Tensor
    cells: Tensor


def corner_targets(
    truths: Sequence[Truth], num_classes: int, shape: tuple[int, int, int], img_shape: Sequence[int], like: Tensor
) -> tuple[CornerTargets, CornerTargets]:
    """Of the left top and of the right bottom corners.

    Args:
        truths: of the pictures.
        num_classes: of foreground.
        shape: (B, H, W) of the maps.
        img_shape: (h, w) of the picture that they cover.
        like: says dtype and device.
    """
    batch, height, width = shape
    boxes = torch.cat([truth.bboxes for truth in truths]).to(like)
    labels = torch.cat([truth.labels for truth in truths])
    picture = torch.arange(batch, device=like.device).repeat_interleave(
        torch.tensor([len(truth) for truth in truths], device=like.device)
    )
    ratio = like.new_tensor([width / img_shape[1], height / img_shape[0]])
    starts, ends = boxes[:, :2] * ratio, boxes[:, 2:] * ratio
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2 * ratio
    radii = gaussian_radius((ends - starts).ceil().flip(1), min_overlap=0.3).long().clamp(min=0)
    limit = like.new_tensor([width - 1, height - 1])
    found = []
    for corners, sign in ((starts, 1), (ends, -1)):
        cells = torch.minimum(corners, limit).clamp(min=0).long()
        heat = gen_gaussian_target(
            (batch * num_classes, height, width), picture * num_classes + labels, cells, radii, like.dtype
        ).view(batch, num_classes, height, width)
        values = torch.cat((corners - cells, sign * (centres - cells), (sign * (centres - corners)).log()), dim=1)
        last = last_at((picture * height + cells[:, 1]) * width + cells[:, 0], batch * height * width)
        values = torch.cat((values, values.new_zeros((1, 6))))[last]  # the last: none
        known = (heat == 1).any(dim=1, keepdim=True).to(like)
        found.append(CornerTargets(heat, values.view(batch, height, width, 6).permute(0, 3, 1, 2), known, cells))
    return found[0], found[1]
