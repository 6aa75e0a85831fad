"""Detections of boxes and scores that a float file gives, which decodes itself."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from hatdet.models.mmdet.heads.base import DenseHead, Detections, PictureMeta
from hatdet.models.mmdet.heads.coding import Picking
from hatdet.models.mmdet.heads.prediction import Candidates, best_in_order, best_priors, finish, in_file_pixels, vote


def of_decoded(head: DenseHead, boxes: Tensor, scores: Tensor, meta: PictureMeta, rescale: bool) -> Detections:
    """Detections of one picture, as the head's own predictions but for this: the threshold and ``nms_pre`` see the
    product of class score and factor, which is all that is known here.

    Args:
        boxes: (P, 4). scores: (P, classes), see :meth:`DenseHead.boxes_and_scores`.
        meta: of the picture.
        rescale: boxes in pixels of the file.
    """
    how: Picking = head.picking()
    cfg = how.read(head.test_cfg)
    if how.clips:
        height, width = meta["img_shape"]
        limits = boxes.new_tensor([width, height, width, height]) - how.clip_less
        boxes = torch.minimum(boxes.clamp(min=0), limits)
    threshold = cfg.get("score_thr", -1.0 if how.peaks else 0.0)
    most = cfg.get("topk", 100) if how.peaks else cfg.get("nms_pre", -1)
    if how.reaches:
        threshold = math.nextafter(threshold, -math.inf)
    found, levels, start = [], [], 0
    for level, count in enumerate([len(boxes)] if how.whole else _counts(head, meta, len(boxes))):
        best, label, prior = _best(scores[start : start + count], how, threshold, most)
        found.append((boxes[start + prior], best, label))
        levels.append(torch.full_like(label, level))
        start += count
    candidates = Candidates(*(torch.cat(kind) for kind in zip(*found, strict=True)))
    if how.by_level:
        candidates.groups = torch.cat(levels)
    if how.vote and rescale:
        candidates.boxes, rescale = in_file_pixels(candidates.boxes, meta), False
    kept = finish(candidates, {**cfg, "nms": None} if how.peaks else cfg, meta, rescale)
    if how.vote:
        kept["boxes"] = vote(kept["boxes"], kept["labels"], candidates)
    return kept


def _best(scores: Tensor, how: Picking, threshold: float, most: int) -> tuple[Tensor, Tensor, Tensor]:
    """Scores, classes and priors of the candidates of a level."""
    if how.by_prior:
        index = best_priors(scores, most)
        best, label, row = best_in_order(scores[index], threshold, -1)
        return best, label, index[row]
    if how.multi_label:
        return best_in_order(scores, threshold, most)
    highest, classes = scores.max(dim=1)
    best, _, prior = best_in_order(highest[:, None], threshold, most)
    return best, classes[prior], prior


def _counts(head: DenseHead, meta: PictureMeta, total: int) -> Sequence[int]:
    """Priors of each level; where they cannot be known, all as one level."""
    height, width = meta["batch_input_shape"]
    places = [math.ceil(height / s) * math.ceil(width / s) for s in head.level_strides]
    each = getattr(getattr(head, "prior_generator", None), "num_base_priors", [1] * len(places))
    counts = [place * number for place, number in zip(places, each, strict=True)]
    return counts if sum(counts) == total else [total]
