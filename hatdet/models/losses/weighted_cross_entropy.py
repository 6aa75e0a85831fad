"""Cross entropy in which objects weigh more than background."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hatdet.registry import register


@register
class WeightedCrossEntropy(nn.Module):
    """Mean over all cells of ``w * -log softmax(logits)[target]``; w is ``object_weight`` where the target is an object
    and 1 where it is background.

    Few of a map's cells hold an object's centre; without the weight the answer "background" everywhere is nearly
    right. 100 is the weight of Edge Impulse's FOMO.

    Args:
        object_weight: of cells with an object.
        loss_weight: multiplies the result.

    Raises:
        ValueError: an object_weight that is not above 0.
    """

    def __init__(self, *, object_weight: float = 100.0, loss_weight: float = 1.0) -> None:
        super().__init__()
        if not object_weight > 0:
            raise ValueError(f"object_weight is above 0, got {object_weight}")
        self.object_weight, self.loss_weight = object_weight, loss_weight

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Scalar loss.

        Args:
            logits: float32 (B, P, 1 + K), background first.
            targets: int64 (B, P): 0: background, k + 1: class k.
        """
        losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
        weights = torch.where(targets.flatten() > 0, self.object_weight, 1.0).to(losses.dtype)
        return self.loss_weight * (losses * weights).mean()
