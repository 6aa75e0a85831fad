"""Class-aware non-maximum suppression: by OpenCV on the CPU, by torch elsewhere, with the same result."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

_Suppress = Callable[[Tensor, Tensor, float], Tensor]
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

    limit = count if max_keep is None else min(max_keep, count)
    # Which of the best n boxes are kept does not depend on the boxes after them.
    prefix = count if limit == count else max(_PREFIX, 2 * limit)
    while True:
        head = best_first(scores.detach(), prefix)
        candidates = boxes.detach()[head].to(torch.float64)
        suppress = _suppress_cv2 if backend == "cv2" else _suppress_torch
        kept = _kept(candidates, labels[head], float(iou_threshold), suppress)
        if kept.numel() >= limit or prefix >= count:
            return head[kept[:limit]]
        prefix *= 4


def best_first(scores: Tensor, number: int) -> Tensor:
    """Indices of the best ``number`` of ``scores`` (N,), best first, equal ones by index: as of a whole stable sort."""
    indices = best_in_order(scores, number)
    return indices[torch.sort(scores[indices], descending=True, stable=True).indices]


def best_in_order(scores: Tensor, number: int) -> Tensor:
    """Indices of the best ``number`` of ``scores`` (N,), those with the lower index of equal ones, by rising index."""
    count = scores.shape[0]
    if number >= count:
        return torch.arange(count, device=scores.device)
    least = _nth_best(scores, number)
    above, equal = ~(scores <= least), scores == least  # NaN is above all, as in a sort
    room = number - int(above.sum())
    chosen = (above | (equal & (equal.cumsum(0) <= room))).nonzero().squeeze(1)
    if len(chosen) == number:
        return chosen
    return torch.sort(scores, descending=True, stable=True).indices[:number].sort().values  # the least is NaN


def _nth_best(scores: Tensor, number: int) -> Tensor | float:
    if scores.device.type == "cpu" and scores.dtype in (torch.float32, torch.float64):
        values = scores.detach().numpy()
        return float(np.partition(values, len(values) - number)[len(values) - number])  # vectorized, unlike torch's
    return scores.topk(number).values[-1]


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
        keep[positions[suppress(rects, labels[positions], threshold)]] = True
    return keep.nonzero().squeeze(1)


def _suppress_cv2(rects: Tensor, labels: Tensor, threshold: float) -> Tensor:
    """A class at a time: OpenCV compares each box with all that are kept, wherever they lie."""
    import cv2

    # Falling numbers in place of the scores: OpenCV then keeps our order, ties and all.
    boxes, classes, ranks = rects.numpy(), labels.numpy(), np.arange(len(rects), 0, -1, dtype=np.float32)
    by_class = np.argsort(classes, kind="stable")
    kept = [
        part[np.asarray(cv2.dnn.NMSBoxes(boxes[part], ranks[: len(part)], 0.0, threshold), np.int64).reshape(-1)]
        for part in np.split(by_class, np.flatnonzero(np.diff(classes[by_class])) + 1)
    ]
    return torch.from_numpy(np.sort(np.concatenate(kept)))


def _suppress_torch(rects: Tensor, labels: Tensor, threshold: float) -> Tensor:
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
