"""Proposals that have several boxes each."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hatdet.models.mmdet.assigners.result import AssignResult
from hatdet.models.mmdet.samplers.random_sampler import RandomSampler
from hatdet.models.mmdet.samplers.result import SamplingResult
from hatdet.registry import register


class MultiInstanceSamplingResult(SamplingResult):
    """:class:`SamplingResult` where what is assigned has one more dimension (k boxes), of negatives too.

    Attributes:
        neg_assigned_gt_inds, neg_gt_labels: int64 (negatives, k). neg_gt_bboxes: (negatives, k, 4).
    """

    def __init__(
        self,
        pos_inds: Tensor,
        neg_inds: Tensor,
        priors: Tensor,
        gt_and_ignore_bboxes: Tensor,
        assign_result: AssignResult,
        gt_flags: Tensor,
        avg_factor_with_neg: bool = True,
    ) -> None:
        self.neg_assigned_gt_inds = assign_result.gt_inds[neg_inds]
        self.neg_gt_labels = assign_result.labels[neg_inds]
        boxes = gt_and_ignore_bboxes.reshape(-1, 4)
        self.neg_gt_bboxes = boxes[self.neg_assigned_gt_inds] if len(boxes) else boxes
        from_one = AssignResult(len(boxes), assign_result.gt_inds + 1, None, assign_result.labels)
        super().__init__(pos_inds, neg_inds, priors, boxes, from_one, gt_flags, avg_factor_with_neg)


@register(scope="mmdet")
class MultiInsRandomSampler(RandomSampler):
    """All with the same probability, for :class:`MultiInstanceAssigner` (CrowdDet, arXiv 2003.09163).

    Args: those of :class:`BaseSampler`; boxes are always among the proposals, behind them.
    """

    def choose_pos(self, assign_result: AssignResult, count: int, priors: Tensor, feats: Any) -> Tensor:
        """Indices of at most ``count`` proposals whose first box is there."""
        return self.some((assign_result.labels[:, 0] > 0).nonzero().squeeze(1), count)

    def choose_neg(self, assign_result: AssignResult, count: int, priors: Tensor, feats: Any) -> Tensor:
        """Indices of at most ``count`` proposals whose first box is background."""
        return self.some((assign_result.labels[:, 0] == 0).nonzero().squeeze(1), count)

    def sample(
        self,
        assign_result: AssignResult,
        pred_instances: Any,
        gt_instances: Any,
        feats: Any = None,
        batch_gt_instances_ignore: Any = None,
        **kwargs: Any,
    ) -> MultiInstanceSamplingResult:
        """As :meth:`BaseSampler.sample`; ``batch_gt_instances_ignore`` has the ignored ``bboxes`` of this picture."""
        boxes = gt_instances.bboxes
        if batch_gt_instances_ignore is not None:
            boxes = torch.cat((boxes, batch_gt_instances_ignore.bboxes))
        priors = torch.cat((pred_instances.priors[:, :4], boxes))
        flags = torch.zeros(len(priors), dtype=torch.uint8, device=priors.device)
        flags[len(priors) - len(boxes) :] = 1
        positive = self.choose_pos(assign_result, int(self.num * self.pos_fraction), priors, feats).unique()
        negative = self.choose_neg(assign_result, self._negatives(len(positive)), priors, feats).unique()
        return MultiInstanceSamplingResult(positive, negative, priors, boxes, assign_result, flags)
