"""Costs with the terms of the focal loss (arXiv 1708.02002)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from hatdet.models.mmdet.costs.boxes import BaseMatchCost
from hatdet.registry import register


@register(scope="mmdet")
class FocalLossCost(BaseMatchCost):
    """Focal loss of the right class, minus that of the same output as background.

    Args:
        alpha, gamma: of the focal loss.
        eps: keeps logarithms finite.
        binary_input: predictions and ground truths are masks: the mean of the focal loss of the pixels.
        weight: see :class:`BaseMatchCost`.
    """

    def __init__(
        self,
        alpha: float = 0.25,
        gamma: float = 2,
        eps: float = 1e-12,
        binary_input: bool = False,
        weight: float = 1.0,
    ) -> None:
        super().__init__(weight)
        self.alpha = alpha
        self.gamma = gamma
        self.eps = eps
        self.binary_input = binary_input

    def __call__(self, pred_instances: Any, gt_instances: Any, img_meta: Mapping[str, Any] | None = None) -> Tensor:
        """Of ``scores`` (n, classes), logits, and ``labels`` (m,); or of ``masks`` (n, h, w) and (m, h, w): (n, m)."""
        if self.binary_input:
            logits = pred_instances.masks.flatten(1)
            return self._of_binary(logits, gt_instances.masks) / logits.shape[1] * self.weight
        yes, no = self._terms(pred_instances.scores)
        labels = gt_instances.labels
        return (yes[:, labels] - no[:, labels]) * self.weight

    def _terms(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of each output with target 1, and with target 0."""
        chance = logits.sigmoid()
        no = -(1 - chance + self.eps).log() * (1 - self.alpha) * chance.pow(self.gamma)
        yes = -(chance + self.eps).log() * self.alpha * (1 - chance).pow(self.gamma)
        return yes, no

    def _of_binary(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Sum over all k outputs (n, k) of the loss with targets (m, ...), 0 or 1: (n, m)."""
        yes, no = self._terms(logits)
        wanted = targets.flatten(1).float()
        return torch.einsum("nc,mc->nm", yes, wanted) + torch.einsum("nc,mc->nm", no, 1 - wanted)


@register(scope="mmdet")
class BinaryFocalLossCost(FocalLossCost):
    """Focal loss against words of a text, several of which may be right (Grounding DINO, arXiv 2303.05499).

    Args: those of :class:`FocalLossCost`.
    """

    def __call__(self, pred_instances: Any, gt_instances: Any, img_meta: Mapping[str, Any] | None = None) -> Tensor:
        """Of ``scores`` (n, words), ``positive_maps`` (m, words) and ``text_token_mask`` (m, words): (n, m)."""
        words = gt_instances.text_token_mask[0].nonzero().squeeze(1)
        logits = pred_instances.scores[:, words].flatten(1)
        return self._of_binary(logits, gt_instances.positive_maps[:, words]) * self.weight
