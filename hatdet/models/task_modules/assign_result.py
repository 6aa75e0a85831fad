"""What an assigner returns."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class AssignResult:
    """The ground truth of each prior of a batch: images B, priors P.

    Attributes:
        gt_inds: int64 (B, P); 0 is background, k the k-th ground truth (from 1) of that image.
        labels: int64 (B, P); class of the ground truth, -1 for background.
        metrics: float32 (B, P); soft target of the class score, and the weight of the box loss; 0 for
            background.
    """

    gt_inds: Tensor
    labels: Tensor
    metrics: Tensor
