"""Suppression among the boxes of several views of a picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from hatdet.models.mmdet.post.suppression import batched_nms


class Suppression:
    """Merges the boxes of several views by MMDetection's suppression.

    Args:
        nms: see :func:`batched_nms`.
        max_per_img: only the best so many; None: all.
    """

    def __init__(self, nms: Mapping[str, Any], max_per_img: int | None = None) -> None:
        self.nms, self.max_per_img = dict(nms), max_per_img

    def suppress(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Of boxes (n, 4), scores (n,) and labels (n,): those that stay, best first."""
        found, kept = batched_nms(boxes, scores, labels, self.nms)
        found, kept = found[: self.max_per_img], kept[: self.max_per_img]
        return {"boxes": found[:, :4], "scores": found[:, 4], "labels": labels[kept]}
