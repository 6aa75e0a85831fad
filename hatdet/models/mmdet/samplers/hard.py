"""Samplers that look at what a box head says."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hatdet.models.mmdet.assigners.result import AssignResult
from hatdet.models.mmdet.overlaps import bbox_overlaps
from hatdet.models.mmdet.samplers.base import BaseSampler, negatives, positives
from hatdet.models.mmdet.samplers.result import SamplingResult
from hatdet.registry import register


class _OfHead(BaseSampler):
    """What the two share: a RoI head that is asked.

    It has ``_bbox_forward(feats, rois)`` (after the number of the stage where it has ``num_stages``), which gives
    ``cls_score`` and ``bbox_pred``, and ``bbox_head`` (of each stage) with ``loss``, ``num_classes``, ``bbox_coder``.
    """

    context: Any

    @property
    def _asked(self) -> Any:
        if self.context is None:
            raise ValueError(f"{type(self).__name__} asks a RoI head about its losses; give it as context")
        return self.context

    @property
    def _head(self) -> Any:
        heads = self._asked.bbox_head
        return heads[self.context.current_stage] if hasattr(self.context, "num_stages") else heads

    def _say(self, feats: Any, boxes: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """RoIs (n, 5), all of picture 0, and what the head says of them."""
        rois = torch.cat((boxes.new_zeros(len(boxes), 1), boxes[:, :4]), dim=1)
        stage = (self._asked.current_stage,) if hasattr(self._asked, "num_stages") else ()
        return rois, self._asked._bbox_forward(*stage, feats, rois)

    def _losses(self, said: dict[str, Tensor], rois: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Classification losses, one a RoI."""
        scores = said["cls_score"]
        found: dict[str, Tensor] = self._head.loss(
            cls_score=scores,
            bbox_pred=None,
            rois=rois,
            labels=labels,
            label_weights=scores.new_ones(len(scores)),
            bbox_targets=None,
            bbox_weights=None,
            reduction_override="none",
        )
        return found


@register(scope="mmdet")
class OHEMSampler(_OfHead):
    """Those with the greatest loss (online hard example mining, arXiv 1604.03540).

    Args:
        context: the RoI head, see the module; may be set later.
        loss_key: name of the loss to look at.
        others: those of :class:`BaseSampler`.
    """

    def __init__(
        self,
        num: int,
        pos_fraction: float,
        context: Any = None,
        neg_pos_ub: float = -1,
        add_gt_as_proposals: bool = True,
        loss_key: str = "loss_cls",
    ) -> None:
        super().__init__(num, pos_fraction, neg_pos_ub, add_gt_as_proposals)
        self.context = context
        self.loss_key = loss_key

    def choose_pos(self, assign_result: AssignResult, count: int, priors: Tensor, feats: Any) -> Tensor:
        """Indices of at most ``count`` positives."""
        found = positives(assign_result)
        return self._hardest(found, assign_result.labels[found], count, priors, feats)

    def choose_neg(self, assign_result: AssignResult, count: int, priors: Tensor, feats: Any) -> Tensor:
        """Indices of at most ``count`` negatives."""
        found = negatives(assign_result)
        return self._hardest(found, torch.full_like(found, self._head.num_classes), count, priors, feats)

    @torch.no_grad()
    def _hardest(self, found: Tensor, labels: Tensor, count: int, priors: Tensor, feats: Any) -> Tensor:
        if len(found) <= count:
            return found
        rois, said = self._say(feats, priors[found])
        return found[self._losses(said, rois, labels)[self.loss_key].topk(count).indices]


@register(scope="mmdet")
class ScoreHLRSampler(_OfHead):
    """Negatives by hierarchical local rank of their scores, with weights (PISA, arXiv 1904.04821).

    Args:
        context: the RoI head, see the module; may be set later.
        k, bias: a weight w becomes ``(bias + (1 - bias) * w) ** k``.
        score_thr: negatives with less score are drawn at random.
        iou_thr: negatives are ranked in groups whose boxes overlap the best one at least so.
        others: those of :class:`BaseSampler`.
    """

    def __init__(
        self,
        num: int,
        pos_fraction: float,
        context: Any = None,
        neg_pos_ub: float = -1,
        add_gt_as_proposals: bool = True,
        k: float = 0.5,
        bias: float = 0,
        score_thr: float = 0.05,
        iou_thr: float = 0.5,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(num, pos_fraction, neg_pos_ub, add_gt_as_proposals, generator)
        self.context = context
        self.k = k
        self.bias = bias
        self.score_thr = score_thr
        self.iou_thr = iou_thr

    def choose_pos(self, assign_result: AssignResult, count: int, priors: Tensor, feats: Any) -> Tensor:
        """Indices of at most ``count`` positives, at random."""
        return self.some(positives(assign_result), count)

    def choose_neg(self, assign_result: AssignResult, count: int, priors: Tensor, feats: Any) -> Tensor:
        """Indices of at most ``count`` negatives."""
        return self.weighted(assign_result, count, priors, feats)[0]

    def sample(
        self, assign_result: AssignResult, pred_instances: Any, gt_instances: Any, feats: Any = None, **kwargs: Any
    ) -> tuple[SamplingResult, Tensor | None]:
        """As :meth:`BaseSampler.sample`; and the weights of the negatives, in their order, None without one."""
        priors, flags = self._with_truth(assign_result, pred_instances.priors, gt_instances)
        positive = self.choose_pos(assign_result, int(self.num * self.pos_fraction), priors, feats)
        negative, weights = self.weighted(assign_result, self._negatives(len(positive)), priors, feats)
        return SamplingResult(positive, negative, priors, gt_instances.bboxes, assign_result, flags), weights

    @torch.no_grad()
    def weighted(
        self, assign_result: AssignResult, count: int, priors: Tensor, feats: Any
    ) -> tuple[Tensor, Tensor | None]:
        """Indices of at most ``count`` negatives, and their weights."""
        found = negatives(assign_result)
        count = min(count, len(found))
        if not len(found):
            return found, None
        rois, said = self._say(feats, priors[found])
        scores = said["cls_score"]
        loss = self._losses(said, rois, torch.full_like(found, self._head.num_classes))["loss_cls"]
        best, label = scores.softmax(dim=-1)[:, :-1].max(dim=-1)
        high, low = (best > self.score_thr).nonzero().squeeze(1), (best <= self.score_thr).nonzero().squeeze(1)
        if not len(high):
            return self.some(found, count), scores.new_ones(count)
        boxes = said["bbox_pred"][high].reshape(len(high), -1, 4)
        chosen_boxes = boxes[torch.arange(len(high), device=boxes.device), label[high] % boxes.shape[1]]
        order = self._by_rank(self._head.bbox_coder.decode(rois[high, 1:], chosen_boxes), best[high])[:count]
        chosen = torch.cat((high[order], self.some(low, count - len(order))))
        upper = max(count, len(high))
        weights = scores.new_ones(count)
        weights[: len(order)] = (upper - torch.arange(len(order), device=scores.device)) / upper
        weights[len(order) :] = weights[: len(order)].min()
        weights = (self.bias + (1 - self.bias) * weights).pow(self.k)
        kept = loss[chosen]
        return found[chosen], weights * (kept.sum() / (kept * weights).sum())

    def _by_rank(self, boxes: Tensor, scores: Tensor) -> Tensor:
        """Indices: the best ones of all groups by score, then the second best, and so on."""
        order = scores.sort(descending=True, stable=True).indices
        sorted_boxes = boxes[order]
        close = bbox_overlaps(sorted_boxes, sorted_boxes, eps=1e-12) >= self.iou_thr
        above = close.triu(diagonal=1)
        leader = torch.ones(len(order), dtype=torch.bool, device=boxes.device)
        while True:  # a box leads a group unless a leader before it is close; the fixed point is the greedy result
            settled = ~(above & leader[:, None]).any(dim=0)
            if torch.equal(settled, leader):
                break
            leader = settled
        belongs = (above | torch.eye(len(order), dtype=torch.bool, device=boxes.device)) & leader[:, None]
        group = belongs.to(torch.uint8).argmax(dim=0)
        rank = (group[:, None] == group).triu(diagonal=1).sum(dim=0)
        importance = len(order) - rank + scores[order]
        return order[importance.sort(descending=True, stable=True).indices]
