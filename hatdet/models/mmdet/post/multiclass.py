"""Scores of all classes to detections."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from hatdet.models.mmdet.overlaps import bbox_overlaps
from hatdet.models.mmdet.post.suppression import batched_nms


def multiclass_nms(
    multi_bboxes: Tensor,
    multi_scores: Tensor,
    score_thr: float,
    nms_cfg: Mapping[str, Any] | None,
    max_num: int = -1,
    score_factors: Tensor | None = None,
    return_inds: bool = False,
) -> Any:
    """Suppression of each class of a picture.

    Args:
        multi_bboxes: (n, 4), or of each class (n, 4 * classes).
        multi_scores: (n, classes + 1); the last one is background and has no part.
        score_thr: boxes of a class with no more than this are left out.
        nms_cfg: see :func:`batched_nms`.
        max_num: only the best so many; below 1: all.
        score_factors: (n,): scores are multiplied by it after the threshold.
        return_inds: give the indices too, into the flat (n * classes) scores.

    Returns:
        Boxes with scores (k, 5), best first; labels int64 (k,); indices (k,) if asked for.
    """
    count, classes = multi_scores.shape[0], multi_scores.shape[1] - 1
    scores = multi_scores[:, :-1].reshape(-1)
    index = (scores > score_thr).nonzero().squeeze(1)
    of_box, labels = index // max(classes, 1), index % max(classes, 1)
    if multi_bboxes.shape[1] > 4:
        boxes = multi_bboxes.reshape(count, classes, 4)[of_box, labels]
    else:
        boxes = multi_bboxes[of_box]
    scores = scores[index]
    if score_factors is not None:
        scores = scores * score_factors.reshape(-1)[of_box]
    dets, keep = batched_nms(boxes, scores, labels, nms_cfg)
    if max_num > 0:
        dets, keep = dets[:max_num], keep[:max_num]
    return (dets, labels[keep], index[keep]) if return_inds else (dets, labels[keep])


def fast_nms(
    multi_bboxes: Tensor,
    multi_scores: Tensor,
    multi_coeffs: Tensor,
    score_thr: float,
    iou_thr: float,
    top_k: int,
    max_num: int = -1,
) -> tuple[Tensor, Tensor, Tensor]:
    """Suppression by all better boxes at once, also by those that are dropped (YOLACT, arXiv 1904.02689).

    Args:
        multi_bboxes: (n, 4).
        multi_scores: (n, classes + 1); the last one is background and has no part.
        multi_coeffs: (n, c): what belongs to a box.
        score_thr: boxes of a class with no more than this are left out.
        iou_thr: overlap with a better box of the class above which one is dropped.
        top_k: best boxes of a class that are looked at.
        max_num: only the best so many; below 1: all.

    Returns:
        Boxes with scores (k, 5), best first; labels int64 (k,); coefficients (k, c).
    """
    scores, index = multi_scores[:, :-1].T.sort(dim=1, descending=True)
    scores, index = scores[:, :top_k], index[:, :top_k]
    boxes = multi_bboxes[index]
    best = bbox_overlaps(boxes, boxes).triu(diagonal=1).amax(dim=1) if index.shape[1] else scores
    label, place = ((best <= iou_thr) & (scores > score_thr)).nonzero(as_tuple=True)
    ordered, order = scores[label, place].sort(descending=True)
    limit = max_num if max_num > 0 else len(order)
    ordered, order = ordered[:limit], order[:limit]
    label, kept = label[order], index[label[order], place[order]]
    return torch.cat((multi_bboxes[kept], ordered[:, None]), dim=1), label, multi_coeffs[kept]
