"""Costs of masks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hatdet.models.mmdet.costs.boxes import BaseMatchCost
from hatdet.registry import register


@register(scope="mmdet")
class DiceCost(BaseMatchCost):
    """1 - dice coefficient (V-Net, arXiv 1606.04797; MaskFormer, arXiv 2107.06278).

    Args:
        pred_act: predictions are logits.
        eps: added above and below.
        naive_dice: sums below, else sums of squares.
        weight: see :class:`BaseMatchCost`.
    """

    def __init__(self, pred_act: bool = False, eps: float = 1e-3, naive_dice: bool = True, weight: float = 1.0) -> None:
        super().__init__(weight)
        self.pred_act = pred_act
        self.eps = eps
        self.naive_dice = naive_dice

    def __call__(self, pred_instances: Any, gt_instances: Any, img_meta: Mapping[str, Any] | None = None) -> Tensor:
        """Of ``masks`` (n, h, w) and (m, h, w): (n, m)."""
        masks = pred_instances.masks.sigmoid() if self.pred_act else pred_instances.masks
        masks, wanted = masks.flatten(1), gt_instances.masks.flatten(1).float()
        shared = 2 * torch.einsum("nc,mc->nm", masks, wanted)
        power = 1 if self.naive_dice else 2
        all_of = masks.pow(power).sum(1)[:, None] + wanted.pow(power).sum(1)
        return (1 - (shared + self.eps) / (all_of + self.eps)) * self.weight


@register(scope="mmdet")
class CrossEntropyLossCost(BaseMatchCost):
    """Binary cross entropy of masks, the mean of their pixels.

    Args:
        use_sigmoid: must be True: predictions are logits.
        weight: see :class:`BaseMatchCost`.
    """

    def __init__(self, use_sigmoid: bool = True, weight: float = 1.0) -> None:
        super().__init__(weight)
        if not use_sigmoid:
            raise ValueError("use_sigmoid=False has no meaning for masks; write use_sigmoid=True")
        self.use_sigmoid = use_sigmoid

    def __call__(self, pred_instances: Any, gt_instances: Any, img_meta: Mapping[str, Any] | None = None) -> Tensor:
        """Of ``masks`` (n, h, w), logits, and (m, h, w): (n, m)."""
        logits, wanted = pred_instances.masks.flatten(1).float(), gt_instances.masks.flatten(1).float()
        yes, no = F.softplus(-logits), F.softplus(logits)
        total = torch.einsum("nc,mc->nm", yes, wanted) + torch.einsum("nc,mc->nm", no, 1 - wanted)
        return total / logits.shape[1] * self.weight
