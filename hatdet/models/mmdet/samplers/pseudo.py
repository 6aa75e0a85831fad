"""No sampling: all priors count."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hatdet.models.mmdet.assigners.result import AssignResult
from hatdet.models.mmdet.samplers.result import MaskSamplingResult, SamplingResult
from hatdet.registry import register


def _split(assign_result: AssignResult) -> tuple[Tensor, Tensor]:
    """Positives and negatives."""
    gt_inds = assign_result.gt_inds
    return (gt_inds > 0).nonzero().squeeze(1), (gt_inds == 0).nonzero().squeeze(1)


@register(scope="mmdet")
class PseudoSampler:
    """Every prior that is not ignored."""

    def sample(
        self, assign_result: AssignResult, pred_instances: Any, gt_instances: Any, **kwargs: Any
    ) -> SamplingResult:
        """Split ``priors`` (n, 4), or points, of the predictions; ``bboxes`` of the ground truth."""
        priors = pred_instances.priors
        flags = torch.zeros(len(priors), dtype=torch.uint8, device=priors.device)
        return SamplingResult(*_split(assign_result), priors, gt_instances.bboxes, assign_result, flags, False)


@register(scope="mmdet")
class MaskPseudoSampler:
    """Every mask that is not ignored."""

    def sample(
        self, assign_result: AssignResult, pred_instances: Any, gt_instances: Any, **kwargs: Any
    ) -> MaskSamplingResult:
        """Split ``masks`` (n, h, w) of the predictions; ``masks`` of the ground truth."""
        masks = pred_instances.masks
        flags = torch.zeros(len(masks), dtype=torch.uint8, device=masks.device)
        return MaskSamplingResult(*_split(assign_result), masks, gt_instances.masks, assign_result, flags, False)
