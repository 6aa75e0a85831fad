"""Class-aware non-maximum suppression: by OpenCV on the CPU, by torch elsewhere, with the same result."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import torch
from torch import Tensor

_Suppress = Callable[[Tensor, float], Tensor]
_BLOCK = 1024  # boxes compared at once by the torch path
_PREFIX = 512  # best boxes that are tried first where only the first few are wanted


def batched_nms(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    iou_threshold: float,
    *,
    max_keep: int | None = None,
    backend: str = "auto",
) -> Tensor:
    """Greedy suppression, best score first, of boxes of the same label whose IoU is above the threshold.

    Equal scores are taken in the order of their index, so the result is a function of the values alone.
    Overlaps are computed in float64 by both backends; boxes without area overlap nothing. Semantics of
    ``torchvision.ops.batched_nms``.

    Args:
        boxes: (N, 4) xyxy.
        scores: (N,).
        labels: (N,) integers; boxes of different labels never suppress each other.
        iou_threshold: from 0 to 1; a box is dropped where the IoU is strictly greater.
        max_keep: return only the best so many; the rest is then not even compared.
        backend: "cv2", "torch", or "auto": cv2 for tensors on the CPU where it is installed.

    Returns:
        Indices (K,) int64 of the kept boxes, best score first.

    Raises:
        ValueError: shapes that do not fit, a threshold out of range, an unknown backend.
    """
    count = scores.shape[0]
    if boxes.shape != (count, 4) or labels.shape != (count,) or scores.dim() != 1:
        raise ValueError(
            "boxes, scores and labels must be (N, 4), (N,) and (N,), got "
            f"{tuple(boxes.shape)}, {tuple(scores.shape)} and {tuple(labels.shape)}"
        )
    if not 0 <= iou_threshold <= 1:
        raise ValueError(f"iou_threshold must be from 0 to 1, got {iou_threshold}")
    if backend not in ("auto", "cv2", "torch"):
        raise ValueError(f"unknown backend {backend!r}; write 'auto', 'cv2' or 'torch'")
    if backend == "auto":
        backend = "cv2" if boxes.device.type == "cpu" and importlib.util.find_spec("cv2") else "torch"

    order = torch.sort(scores.detach(), descending=True, stable=True).indices
    limit = count if max_keep is None else min(max_keep, count)
    # Which of the best n boxes are kept does not depend on the boxes after them.
    prefix = count if limit == count else max(_PREFIX, 2 * limit)
    while True:
        head = order[:prefix]
        candidates = boxes.detach()[head].to(torch.float64)
        suppress = _suppress_cv2 if backend == "cv2" else _suppress_torch
        kept = _kept(candidates, labels[head], float(iou_threshold), suppress)
        if kept.numel() >= limit or prefix >= count:
            return head[kept[:limit]]
        prefix *= 4


def _kept(boxes: Tensor, labels: Tensor, threshold: float, suppress: _Suppress) -> Tensor:
    """Positions kept, in order, of float64 boxes that are sorted by score already."""
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    solid = (width > 0) & (height > 0) & (width * height > 1e-12)
    keep = ~solid
    positions = solid.nonzero().squeeze(1)
    if positions.numel():
        solids, classes = boxes[positions], labels[positions].to(torch.float64)
        # Each class gets its own region of the plane. float64 keeps the fractions.
        span = solids.max() - solids.min() + 1
        shifted = solids + (classes * span)[:, None]
        rects = torch.stack(
            (
                shifted[:, 0],
                shifted[:, 1],
                shifted[:, 2] - shifted[:, 0],
                shifted[:, 3] - shifted[:, 1],
            ),
            dim=1,
        )
        keep[positions[suppress(rects, threshold)]] = True
    return keep.nonzero().squeeze(1)


def _suppress_cv2(rects: Tensor, threshold: float) -> Tensor:
    import cv2
    import numpy as np

    # Falling numbers in place of the scores: OpenCV then keeps our order, ties and all.
    ranks = np.arange(len(rects), 0, -1, dtype=np.float32)
    kept = cv2.dnn.NMSBoxes(rects.numpy(), ranks, 0.0, threshold)
    return torch.as_tensor(np.asarray(kept, dtype=np.int64).reshape(-1))


def _suppress_torch(rects: Tensor, threshold: float) -> Tensor:
    """Greedy suppression by blocks: against what is kept already, then inside the block."""
    kept = rects.new_zeros(0, dtype=torch.int64)
    for start in range(0, len(rects), _BLOCK):
        block = torch.arange(start, min(start + _BLOCK, len(rects)), device=rects.device)
        block = block[~(_overlaps(rects[kept], rects[block]) > threshold).any(dim=0)]
        above = (_overlaps(rects[block], rects[block]) > threshold).triu(diagonal=1)
        alive = torch.ones(len(block), dtype=torch.bool, device=rects.device)
        # Repeat "dropped if a living box before it overlaps" until nothing changes: the i-th round settles
        # the i-th link of every chain of suppressions, and the only fixed point is the greedy result.
        while True:
            settled = ~(above & alive[:, None]).any(dim=0)
            if torch.equal(settled, alive):
                break
            alive = settled
        kept = torch.cat((kept, block[alive]))
    return kept


def _overlaps(a: Tensor, b: Tensor) -> Tensor:
    """IoU (N, M) as float32 of float64 (x, y, w, h), rounded as OpenCV does: through the Jaccard distance."""
    ax, ay, aw, ah = a[:, None].unbind(-1)
    bx, by, bw, bh = b[None].unbind(-1)
    width = torch.minimum(ax + aw, bx + bw) - torch.maximum(ax, bx)
    height = torch.minimum(ay + ah, by + bh) - torch.maximum(ay, by)
    intersection = width.clamp(min=0) * height.clamp(min=0)
    distance = 1 - intersection / (aw * ah + bw * bh - intersection)
    return 1 - distance.to(torch.float32)
