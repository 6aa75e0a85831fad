"""Which anchor learns which box, by overlap."""

from __future__ import annotations

import torch
from torch import Tensor

from hatdet.ops.boxes import pairwise_iou
from hatdet.registry import register

BACKGROUND = -1
"""What :class:`MaxIoUMatcher` says of an anchor that overlaps no box enough."""


def ignored(index: Tensor) -> Tensor:
    """What :class:`MaxIoUMatcher` says of an anchor between the thresholds, whose best box is ``index``: -2, -3, ..."""
    return -2 - index


def ignored_index(match: Tensor) -> Tensor:
    """The box of an ignored anchor; the inverse of :func:`ignored`."""
    return -2 - match


@register
class MaxIoUMatcher:
    """Each anchor takes the box that it overlaps most (arXiv 1506.01497, section 3.1.2).

    Args:
        pos_iou: from this IoU on the anchor learns the box.
        neg_iou: below it the anchor is background; between the two it is ignored.
        allow_low_quality_match: each box also gets the anchors that overlap it most (all of equal IoU), whatever
            their IoU, so that no box is left out. An anchor that is the best one of several boxes learns the one it
            overlaps most, the first of equals.
        low_quality_iou: such a match needs at least this IoU (and any overlap at all).

    Raises:
        ValueError: not 0 <= neg_iou <= pos_iou <= 1 with pos_iou above 0, or another IoU out of range.
    """

    def __init__(
        self,
        *,
        pos_iou: float,
        neg_iou: float,
        allow_low_quality_match: bool = True,
        low_quality_iou: float = 0.0,
    ) -> None:
        if not 0 <= neg_iou <= pos_iou <= 1 or pos_iou == 0 or not 0 <= low_quality_iou <= 1:
            raise ValueError(
                "0 <= neg_iou <= pos_iou <= 1 is needed, pos_iou above 0, and low_quality_iou from 0 to 1; got "
                f"neg_iou={neg_iou}, pos_iou={pos_iou}, low_quality_iou={low_quality_iou}"
            )
        self.pos_iou = pos_iou
        self.neg_iou = neg_iou
        self.allow_low_quality_match = allow_low_quality_match
        self.low_quality_iou = low_quality_iou

    @torch.no_grad()
    def __call__(self, anchors: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Match the anchors of one image.

        Args:
            anchors: (P, 4) xyxy.
            boxes: (n, 4) xyxy, those to learn; n may be 0.

        Returns:
            match, int64 (P,): the index of the box, -1 for background, :func:`ignored` of the index between the
            thresholds; and float32 (n,), the best IoU that each box has with an anchor.
        """
        match = torch.full((len(anchors),), BACKGROUND, device=anchors.device)
        if not len(boxes):
            return match, anchors.new_zeros(0)
        # One row a box: n is small, and the long dimension is the contiguous one.
        ious = pairwise_iou(boxes, anchors)
        best, index = ious.max(dim=0)
        match = torch.where(best >= self.neg_iou, ignored(index), match)
        match = torch.where(best >= self.pos_iou, index, match)
        of_box = ious.amax(dim=1)
        if self.allow_low_quality_match:
            wanted = (of_box > 0) & (of_box >= self.low_quality_iou)
            chosen = (ious == of_box[:, None]) & wanted[:, None]
            some = chosen.any(dim=0).nonzero().squeeze(1)
            match[some] = torch.where(chosen[:, some], ious[:, some], -1.0).argmax(dim=0)
        return match, of_box
