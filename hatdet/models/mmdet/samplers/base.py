"""A fixed number of priors, a share of them positive."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from hatdet.models.mmdet.assigners.result import AssignResult
from hatdet.models.mmdet.samplers.result import SamplingResult


class BaseSampler(ABC):
    """Chooses positives, then as many negatives as are missing.

    Args:
        num: priors of a picture.
        pos_fraction: greatest share of positives.
        neg_pos_ub: at most so many negatives for each positive; -1: as many as are missing.
        add_gt_as_proposals: ground truths are put before the priors.
        generator: random numbers are drawn from it; from torch's global one if None.
    """

    def __init__(
        self,
        num: int,
        pos_fraction: float,
        neg_pos_ub: float = -1,
        add_gt_as_proposals: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        self.num = num
        self.pos_fraction = pos_fraction
        self.neg_pos_ub = neg_pos_ub
        self.add_gt_as_proposals = add_gt_as_proposals
        self.generator = generator

    @abstractmethod
    def choose_pos(self, assign_result: AssignResult, count: int, priors: Tensor, feats: Any) -> Tensor:
        """Indices of at most ``count`` positives."""

    @abstractmethod
    def choose_neg(self, assign_result: AssignResult, count: int, priors: Tensor, feats: Any) -> Tensor:
        """Indices of at most ``count`` negatives."""

    def sample(
        self, assign_result: AssignResult, pred_instances: Any, gt_instances: Any, feats: Any = None, **kwargs: Any
    ) -> Any:
        """Sample ``priors`` (n, 4) of the predictions; ``bboxes`` and ``labels`` of the ground truth.

        Args:
            feats: feature maps, for samplers that look at losses. ``assign_result`` gets the ground truths put before
                its priors, where they are.

        Returns:
            :class:`SamplingResult`.
        """
        priors, flags = self._with_truth(assign_result, pred_instances.priors, gt_instances)
        positive = self.choose_pos(assign_result, int(self.num * self.pos_fraction), priors, feats).unique()
        wanted = self._negatives(len(positive))
        negative = self.choose_neg(assign_result, wanted, priors, feats).unique()
        return SamplingResult(positive, negative, priors, gt_instances.bboxes, assign_result, flags)

    def _with_truth(self, assign_result: AssignResult, priors: Tensor, gt_instances: Any) -> tuple[Tensor, Tensor]:
        """Priors with the ground truths before them, if wanted, and uint8 flags of these."""
        flags = torch.zeros(len(priors), dtype=torch.uint8, device=priors.device)
        boxes = gt_instances.bboxes
        if not self.add_gt_as_proposals or not len(boxes):
            return priors, flags
        assign_result.add_gt_(gt_instances.labels)
        return torch.cat((boxes, priors)), torch.cat((flags.new_ones(len(boxes)), flags))

    def _negatives(self, positives: int) -> int:
        missing = self.num - positives
        return missing if self.neg_pos_ub < 0 else min(missing, int(self.neg_pos_ub * max(1, positives)))

    def some(self, gallery: Tensor, count: int) -> Tensor:
        """At most ``count`` of the gallery, at random."""
        if len(gallery) <= count:
            return gallery
        return gallery[torch.randperm(len(gallery), generator=self.generator)[:count].to(gallery.device)]


def positives(assign_result: AssignResult) -> Tensor:
    """Priors that learn a box."""
    return (assign_result.gt_inds > 0).nonzero().squeeze(1)


def negatives(assign_result: AssignResult) -> Tensor:
    """Priors that learn background."""
    return (assign_result.gt_inds == 0).nonzero().squeeze(1)


def without(gallery: Tensor, taken: Tensor) -> Tensor:
    """The gallery but what is taken already."""
    return gallery[~torch.isin(gallery, taken)]
