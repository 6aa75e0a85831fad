"""Learning from another network's scores."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from hatdet.models.mmdet.losses.utils import Divisor, Reduction, WeightedLoss
from hatdet.registry import register


@register(scope="mmdet")
class KnowledgeDistillationKLDivLoss(WeightedLoss):
    """Divergence of two softmaxes at temperature T, mean over the classes, times T^2 (arXiv 1503.02531).

    Args:
        reduction: see :class:`WeightedLoss`.
        loss_weight: multiplies the result.
        T: temperature.

    Raises:
        ValueError: a temperature below 1.
    """

    def __init__(self, reduction: Reduction = "mean", loss_weight: float = 1.0, T: float = 10) -> None:
        super().__init__(reduction, loss_weight)
        if T < 1:
            raise ValueError(f"T is a temperature of at least 1, got {T}")
        self.T = T

    def forward(
        self,
        pred: Tensor,
        soft_label: Tensor,
        weight: Tensor | None = None,
        avg_factor: Divisor = None,
        reduction_override: Reduction | None = None,
    ) -> Tensor:
        """The loss of logits (n, classes) and the teacher's logits (n, classes), which learn nothing; weights (n,)."""
        wanted = (soft_label / self.T).softmax(dim=1).detach()
        loss = F.kl_div((pred / self.T).log_softmax(dim=1), wanted, reduction="none").mean(1) * self.T**2
        return self.reduced(loss, weight, avg_factor, reduction_override)
