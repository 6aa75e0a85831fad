"""Non-maximum suppression, hard and soft, with MMDetection's options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from hatdet.models.mmdet import exact
from hatdet.models.mmdet.overlaps import bbox_overlaps
from hatdet.ops.nms import batched_nms as suppress

METHODS = ("naive", "linear", "gaussian")


def nms(
    boxes: Tensor,
    scores: Tensor,
    iou_threshold: float,
    offset: int = 0,
    score_threshold: float = 0,
    max_num: int = -1,
    *,
    idxs: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Greedy suppression: the best box drops those whose overlap with it is above the threshold, and so on.

    Args:
        boxes: (n, 4) xyxy. scores: (n,).
        offset: 1: right and bottom edges are the last pixel.
        score_threshold: boxes with no more than this are left out first; 0: none is.
        max_num: only the best so many; -1: all.
        idxs: int (n,): boxes of different numbers do not touch each other.

    Returns:
        Boxes with their scores (k, 5), best first, and their indices (k,).
    """
    if offset not in (0, 1):
        raise ValueError(f"offset is 0 or 1, got {offset}")
    groups = torch.zeros_like(scores, dtype=torch.int64) if idxs is None else idxs
    index = torch.arange(len(scores), device=scores.device)
    if score_threshold > 0:
        index = (scores > score_threshold).nonzero().squeeze(1)
    grown = boxes + boxes.new_tensor([0, 0, offset, offset]) if offset else boxes
    limit = max_num if max_num > 0 else None
    kept = suppress(grown[index], scores[index], groups[index], iou_threshold, max_keep=limit)
    index = index[kept]
    return torch.cat((boxes[index], scores[index, None]), dim=1), index


def soft_nms(
    boxes: Tensor,
    scores: Tensor,
    iou_threshold: float = 0.3,
    sigma: float = 0.5,
    min_score: float = 1e-3,
    method: str = "linear",
    offset: int = 0,
    *,
    idxs: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Soft suppression (arXiv 1704.04503): the best box lowers the scores of those that overlap it, and so on.

    Of equal scores it takes, as MMCV's, the one that comes first after the exchanges so far.

    Args:
        boxes: (n, 4) xyxy. scores: (n,).
        iou_threshold, method: ``linear``: times 1 - overlap from the threshold on; ``naive``: 0 from there on;
            ``gaussian``: times exp(-overlap ** 2 / sigma) everywhere.
        min_score: boxes that fall below are left out (but not the very best one).
        offset: 1: right and bottom edges are the last pixel.
        idxs: int (n,): boxes of different numbers do not touch each other.

    Returns:
        Boxes with their new scores (k, 5), best first, and their indices (k,).
    """
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; write one of {', '.join(METHODS)}")
    grown = boxes.detach() + boxes.new_tensor([0, 0, offset, offset])
    left, order = scores.detach().clone(), torch.arange(len(scores), device=scores.device)
    groups = torch.zeros_like(order) if idxs is None else idxs
    done = 0
    while done < len(order):
        best = done + int(left[order[done:]].argmax())
        order[[done, best]] = order[[best, done]]
        rest = order[done + 1 :]
        ious = bbox_overlaps(grown[order[done], None], grown[rest], eps=1e-12)[0] * (
            groups[rest] == groups[order[done]]
        )
        if method == "gaussian":
            factors = exact.exp(exact.divide(-(ious * ious), sigma))
        else:
            factors = torch.where(ious >= iou_threshold, 1 - ious if method == "linear" else 0.0, 1.0)
        left[rest] = left[rest] * factors
        order = torch.cat((order[: done + 1], _closed_up(rest, left[rest] >= min_score)))
        done += 1
    return torch.cat((boxes[order], left[order, None]), dim=1), order


def _closed_up(order: Tensor, alive: Tensor) -> Tensor:
    """What is alive, where each that is not is replaced by the last one that is: as in a list kept without gaps."""
    count = int(alive.sum())
    found = order[:count].clone()
    gaps = (~alive[:count]).nonzero().squeeze(1)
    if len(gaps):
        found[gaps] = order[count:][alive[count:]].flip(0)
    return found


def kind_of(nms_cfg: Mapping[str, Any]) -> str:
    """``nms``, ``soft_nms``; with or without its package before it."""
    return str(nms_cfg.get("type", "nms")).rpartition(".")[2]


def batched_nms(
    boxes: Tensor, scores: Tensor, idxs: Tensor, nms_cfg: Mapping[str, Any] | None, class_agnostic: bool = False
) -> tuple[Tensor, Tensor]:
    """Suppression of each class for itself.

    Args:
        boxes: (n, 4) xyxy. scores: (n,). idxs: int (n,), the class.
        nms_cfg: ``type``: ``nms`` or ``soft_nms``, and its arguments; ``max_num``; ``class_agnostic``. None: no
            suppression, all by falling score.
        class_agnostic: classes do not matter.

    Returns:
        Boxes with their scores (k, 5), best first, and their indices (k,).
    """
    if nms_cfg is None:
        ordered, index = scores.sort(descending=True)
        return torch.cat((boxes[index], ordered[:, None]), dim=1), index
    cfg = dict(nms_cfg)
    groups = None if cfg.pop("class_agnostic", class_agnostic) else idxs
    kind, max_num = kind_of(cfg), cfg.pop("max_num", -1)
    cfg.pop("type", None)
    cfg.pop("split_thr", None)  # above it MMCV takes the classes one by one: the result is that of the other way
    if "iou_thr" in cfg:
        cfg["iou_threshold"] = cfg.pop("iou_thr")
    if kind == "nms":
        return nms(boxes, scores, **cfg, max_num=max_num, idxs=groups)
    if kind == "soft_nms":
        dets, keep = soft_nms(boxes, scores, **cfg, idxs=groups)
        return (dets[:max_num], keep[:max_num]) if max_num > 0 else (dets, keep)
    raise ValueError(f"unknown type {kind!r} of nms; write 'nms' or 'soft_nms'")
