"""Suppression of masks by a matrix of overlaps."""

from __future__ import annotations

import torch
from torch import Tensor

KERNELS = ("gaussian", "linear")


def mask_matrix_nms(
    masks: Tensor,
    labels: Tensor,
    scores: Tensor,
    filter_thr: float = -1,
    nms_pre: int = -1,
    max_num: int = -1,
    kernel: str = "gaussian",
    sigma: float = 2.0,
    mask_area: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Matrix NMS (SOLOv2, arXiv 2003.10152, section 3.4): each better mask of the class lowers a score, all at once.

    Args:
        masks: (n, h, w), 0 or 1. labels: (n,). scores: (n,).
        filter_thr: masks whose new score is below are left out; not above 0: none.
        nms_pre: best masks that are looked at; below 1: all.
        max_num: only the best so many; below 1: all.
        kernel: how overlap lowers: ``gaussian``, exp(-sigma * overlap ** 2), or ``linear``, 1 - overlap.
        mask_area: (n,) if known.

    Returns:
        New scores (k,), best first, labels, masks, and indices (k,).
    """
    if kernel not in KERNELS:
        raise ValueError(f"unknown kernel {kernel!r}; write one of {', '.join(KERNELS)}")
    if not len(labels):
        return scores.new_zeros(0), labels.new_zeros(0), masks[:0], labels.new_zeros(0)
    area = masks.sum((1, 2)).float() if mask_area is None else mask_area
    ordered, index = scores.sort(descending=True)
    if nms_pre > 0:
        ordered, index = ordered[:nms_pre], index[:nms_pre]
    flat, area, classes = masks[index].flatten(1).float(), area[index], labels[index]
    shared = flat @ flat.T
    same = (classes[:, None] == classes).triu(diagonal=1)
    ious = (shared / (area[:, None] + area - shared)).triu(diagonal=1) * same
    worst = ious.amax(dim=0)[:, None]  # how much the better mask itself was lowered
    if kernel == "gaussian":
        factors = torch.exp(-sigma * ious**2) / torch.exp(-sigma * worst**2)
    else:
        factors = (1 - ious) / (1 - worst)
    lowered = ordered * factors.amin(dim=0)
    if filter_thr > 0:
        enough = lowered >= filter_thr
        lowered, index = lowered[enough], index[enough]
    lowered, order = lowered.sort(descending=True)
    limit = max_num if max_num > 0 else len(order)
    index = index[order[:limit]]
    return lowered[:limit], labels[index], masks[index], index
