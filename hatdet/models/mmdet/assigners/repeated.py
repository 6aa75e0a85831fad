"""Boxes that are there more than once."""

from __future__ import annotations

import torch
from torch import Tensor

from hatdet.models.mmdet.overlaps import Overlaps

_TRIES = 5
_LEAST_RANGE = 0.001


def moved_apart(
    boxes: Tensor,
    calculator: Overlaps,
    iou_thr: float = 0.97,
    perm_range: float = 0.01,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Boxes (n, 4) where equal ones have become unequal (DDQ, arXiv 2303.12776).

    Args:
        iou_thr: overlap that a moved box keeps with what it was, if a few tries find it.
        perm_range: coordinates are multiplied by random numbers from 1 - this to 1 + this.
    """
    found = boxes.clone()
    unique, inverse, counts = torch.unique(boxes, dim=0, return_inverse=True, return_counts=True)
    for group in (counts > 1).nonzero().squeeze(1):
        members = (inverse == group).nonzero().squeeze(1)
        reach = perm_range
        for attempt in range(_TRIES + 1):
            factors = torch.empty(len(members), 4, device=boxes.device).uniform_(
                1 - reach, 1 + reach, generator=generator
            )
            moved = boxes[members] * factors
            near = (calculator(unique[group][None], moved) >= iou_thr).all()
            if near and (moved[:, 2:] > moved[:, :2]).all():
                break
            reach = max(reach - attempt * _LEAST_RANGE, _LEAST_RANGE)
        found[members] = moved
    return found
