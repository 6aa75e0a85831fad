"""Corners that belong together get like embeddings."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hatdet.registry import register

Match = Sequence[Sequence[Sequence[int]]]
"""Of each object of a picture ((y, x) of the top-left corner, (y, x) of the bottom-right one)."""


@register(scope="mmdet")
class AssociativeEmbeddingLoss(nn.Module):
    """Pulls the two corners of an object together, pushes objects apart (arXiv 1808.01244, equations 4 and 5).

    Args:
        pull_weight: multiplies the first.
        push_weight: multiplies the second.
    """

    def __init__(self, pull_weight: float = 0.25, push_weight: float = 0.25) -> None:
        super().__init__()
        self.pull_weight, self.push_weight = pull_weight, push_weight

    def forward(self, pred: Tensor, target: Tensor, match: Sequence[Match]) -> tuple[Tensor, Tensor]:
        """The two losses, summed over the pictures.

        Args:
            pred: embeddings (B, c, h, w) of top-left corners.
            target: of bottom-right corners.
            match: of each picture.
        """
        pull = push = pred.sum() * 0
        for first, last, pairs in zip(pred, target, match):
            if len(pairs):
                losses = _of_picture(first, last, torch.as_tensor(pairs, device=pred.device))
                pull, push = pull + self.pull_weight * losses[0], push + self.push_weight * losses[1]
        return pull, push


def _of_picture(first: Tensor, last: Tensor, corners: Tensor) -> tuple[Tensor, Tensor]:
    (top, left), (bottom, right) = corners[:, 0].unbind(-1), corners[:, 1].unbind(-1)
    starts, ends = first[:, top, left].T, last[:, bottom, right].T  # (n, c)
    means, count = (starts + ends) / 2, len(corners)
    pull = ((starts - means).square() + (ends - means).square()).sum() / count
    apart = (means[:, None] - means[None]).sum(-1).abs()
    others = 1 - torch.eye(count, device=means.device)
    push = (others * (1 - apart).clamp(min=0)).sum() / max(count * (count - 1), 1)
    return pull, push
