"""What a sampler returns."""

from __future__ import annotations

import torch
from torch import Tensor

from hatdet.models.mmdet.assigners.result import AssignResult


class SamplingResult:
    """The priors of a picture that count in the loss.

    Attributes:
        pos_inds, neg_inds: int64, rising: those that learn a box, those that learn background.
        num_pos, num_neg: how many, at least 1.
        avg_factor: what losses are divided by: both, or the positives (``avg_factor_with_neg``).
        pos_priors, neg_priors: their boxes.
        pos_is_gt: uint8, 1 for ground truths that were put among the priors.
        num_gts: ground truths of the picture.
        pos_assigned_gt_inds: int64, from 0: which one each positive learns.
        pos_gt_labels, pos_gt_bboxes: its class and box.
    """

    def __init__(
        self,
        pos_inds: Tensor,
        neg_inds: Tensor,
        priors: Tensor,
        gt_bboxes: Tensor,
        assign_result: AssignResult,
        gt_flags: Tensor,
        avg_factor_with_neg: bool = True,
    ) -> None:
        self.pos_inds, self.neg_inds = pos_inds, neg_inds
        self.num_pos, self.num_neg = max(len(pos_inds), 1), max(len(neg_inds), 1)
        self.avg_factor_with_neg = avg_factor_with_neg
        self.avg_factor = self.num_pos + self.num_neg if avg_factor_with_neg else self.num_pos
        self.pos_priors, self.neg_priors = priors[pos_inds], priors[neg_inds]
        self.pos_is_gt = gt_flags[pos_inds]
        self.num_gts = len(gt_bboxes)
        self.pos_assigned_gt_inds = assign_result.gt_inds[pos_inds] - 1
        self.pos_gt_labels = assign_result.labels[pos_inds]
        self.pos_gt_bboxes = gt_bboxes.reshape(-1, 4)[self.pos_assigned_gt_inds]

    @property
    def priors(self) -> Tensor:
        """Positives, then negatives."""
        return torch.cat((self.pos_priors, self.neg_priors))

    # The names of MMDetection 2.
    bboxes = priors

    @property
    def pos_bboxes(self) -> Tensor:
        """``pos_priors``."""
        return self.pos_priors

    @property
    def neg_bboxes(self) -> Tensor:
        """``neg_priors``."""
        return self.neg_priors


class MaskSamplingResult:
    """The same where masks (n, h, w) stand in the place of boxes: ``pos_masks``, ``neg_masks``, ``pos_gt_masks``."""

    def __init__(
        self,
        pos_inds: Tensor,
        neg_inds: Tensor,
        masks: Tensor,
        gt_masks: Tensor,
        assign_result: AssignResult,
        gt_flags: Tensor,
        avg_factor_with_neg: bool = True,
    ) -> None:
        self.pos_inds, self.neg_inds = pos_inds, neg_inds
        self.num_pos, self.num_neg = max(len(pos_inds), 1), max(len(neg_inds), 1)
        self.avg_factor = self.num_pos + self.num_neg if avg_factor_with_neg else self.num_pos
        self.pos_masks, self.neg_masks = masks[pos_inds], masks[neg_inds]
        self.pos_is_gt = gt_flags[pos_inds]
        self.num_gts = len(gt_masks)
        self.pos_assigned_gt_inds = assign_result.gt_inds[pos_inds] - 1
        self.pos_gt_masks = gt_masks[self.pos_assigned_gt_inds]

    @property
    def masks(self) -> Tensor:
        """Positives, then negatives."""
        return torch.cat((self.pos_masks, self.neg_masks))
