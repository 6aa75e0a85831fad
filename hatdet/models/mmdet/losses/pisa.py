"""Prime samples: examples that matter for the result count more (arXiv 1904.04821)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hatdet.ops.boxes import aligned_iou

Targets = tuple[Tensor, Tensor, Tensor, Tensor]
"""labels int64 (n,), their weights (n,), targets of boxes (n, 4), their weights (n, 4)."""


def isr_p(
    cls_score: Tensor,
    bbox_pred: Tensor,
    bbox_targets: Targets,
    rois: Tensor,
    sampling_results: Sequence[Any],
    loss_cls: nn.Module,
    bbox_coder: Any,
    k: float = 2,
    bias: float = 0,
    num_class: int = 80,
) -> Targets:
    """The targets with new weights of the positives' labels: importance-based sample reweighting.

    Positives of a class are ranked by the IoU of their predicted boxes with what they are to be, the best of each
    object before all others; a rank becomes a weight ``(bias + (1 - bias) (m - rank) / m)^k``, m the number of
    positives of the largest class. The weights are scaled so that the classes' loss of all positives stays.

    Args:
        cls_score: logits (n, classes).
        bbox_pred: (n, 4), or (n, 4 classes).
        bbox_targets: see :data:`Targets`.
        rois: (n, 4), or (n, 5) with the picture's index first.
        sampling_results: of each picture: ``pos_assigned_gt_inds``, in the order of the positives' rows.
        loss_cls: of the classes; called with ``reduction_override="none"``.
        bbox_coder: has ``decode(boxes, deltas)``.
        k: see above.
        bias: see above.
        num_class: of foreground.
    """
    labels, label_weights, box_targets, box_weights = bbox_targets
    positive = ((labels >= 0) & (labels < num_class)).nonzero().flatten()
    if len(positive) == 0:
        return bbox_targets
    own, objects = labels[positive], _objects(sampling_results)
    scores, boxes = cls_score.detach()[positive], _own_boxes(bbox_pred.detach(), positive, own)
    places = rois[positive][:, -4:]
    iou = aligned_iou(bbox_coder.decode(places, boxes), bbox_coder.decode(places, box_targets[positive]))
    most = own.bincount().max()
    # the best of each object get the largest number, the second best the next ...
    order = iou + (most - _ranks(iou, own * (objects.max() + 1) + objects))
    old = label_weights[positive]
    new = (bias + old * (most - _ranks(order, own)) / most * (1 - bias)).pow(k)
    loss = loss_cls(scores, own, reduction_override="none")
    loss = loss.sum(dim=1) if loss.dim() > 1 else loss
    new = new * ((loss * old).sum() / (loss * new).sum())
    weights = label_weights.index_copy(0, positive, new.to(label_weights.dtype).detach())
    return labels, weights, box_targets, box_weights


def carl_loss(
    cls_score: Tensor,
    labels: Tensor,
    bbox_pred: Tensor,
    bbox_targets: Tensor,
    loss_bbox: nn.Module,
    k: float = 1,
    bias: float = 0.2,
    avg_factor: Tensor | float | None = None,
    sigmoid: bool = False,
    num_class: int = 80,
) -> dict[str, Tensor]:
    """``loss_carl`` (1,): the loss of boxes, weighed by the scores of their classes, which learn from it.

    Args:
        cls_score: logits (n, classes).
        labels: int64 (n,).
        bbox_pred: (n, 4), or (n, 4 classes).
        bbox_targets: (n, 4).
        loss_bbox: of boxes; called with ``reduction_override="none"``.
        k: exponent of the weights.
        bias: weight of a score of 0.
        avg_factor: divisor; None: n.
        sigmoid: logits become scores by a sigmoid, not by softmax.
        num_class: of foreground.
    """
    positive = ((labels >= 0) & (labels < num_class)).nonzero().flatten()
    if len(positive) == 0:
        return {"loss_carl": cls_score.sum()[None] * 0.0}
    own = labels[positive]
    scores = cls_score.sigmoid() if sigmoid else cls_score.softmax(-1)
    weights = (bias + (1 - bias) * scores[positive, own]).pow(k)
    weights = weights * (len(positive) / weights.sum())
    boxes = _own_boxes(bbox_pred, positive, own)
    loss = loss_bbox(boxes, bbox_targets[positive], reduction_override="none")
    loss = loss / (len(bbox_targets) if avg_factor is None else avg_factor)
    return {"loss_carl": (loss * weights[:, None]).sum()[None]}


def _own_boxes(boxes: Tensor, rows: Tensor, labels: Tensor) -> Tensor:
    return boxes[rows] if boxes.shape[-1] == 4 else boxes.view(len(boxes), -1, 4)[rows, labels]


def _objects(sampling_results: Sequence[Any]) -> Tensor:
    """The objects of the positives of all pictures, numbered through."""
    found, before = [], 0
    for result in sampling_results:
        inds: Tensor = result.pos_assigned_gt_inds
        found.append(inds + before)
        before += int(inds.max()) + 1 if len(inds) else 0
    return torch.cat(found)


def _ranks(values: Tensor, groups: Tensor) -> Tensor:
    """The place of each value (n,) in its group, counted from the largest, 0."""
    order = values.argsort(descending=True, stable=True)
    order = order[groups[order].argsort(stable=True)]
    counts = groups[order].unique_consecutive(return_counts=True)[1]
    begins = (counts.cumsum(0) - counts).repeat_interleave(counts)
    ranks = torch.empty_like(order)
    ranks[order] = torch.arange(len(order), device=order.device) - begins
    return ranks
