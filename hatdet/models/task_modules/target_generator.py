"""From ground truth to what each anchor of a batch has to say."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hatdet.models.task_modules.encoders import OneHotClassEncoder, XYWHBBoxEncoder
from hatdet.models.task_modules.max_iou_matcher import BACKGROUND, MaxIoUMatcher, ignored_index
from hatdet.registry import register


@dataclass(frozen=True)
class AnchorTargets:
    """Targets of the anchors of a batch: images B, anchors P, columns K of the class encoder, N positive anchors.

    Attributes:
        classes: int8 (B, P, K): 1, 0, or -1 where nothing is learned.
        positive: bool (B, P): anchors that learn a box.
        deltas: float32 (N, 4): encoded boxes of the positive anchors, image by image, in their order.
        num_boxes: boxes to learn in the batch.
        covered: int64 scalar: boxes that overlap an anchor by the matcher's ``pos_iou``.
    """

    classes: Tensor
    positive: Tensor
    deltas: Tensor
    num_boxes: int
    covered: Tensor


@register
class MatchLabelSepEncoder:
    """Encodes class and box of a match separately.

    Args:
        bbox_encoder: of the boxes of positive anchors.
        class_encoder: of the labels of all anchors.
    """

    def __init__(self, *, bbox_encoder: XYWHBBoxEncoder, class_encoder: OneHotClassEncoder) -> None:
        self.bbox_encoder = bbox_encoder
        self.class_encoder = class_encoder

    def __call__(self, anchors: Tensor, match: Tensor, boxes: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Targets of one image.

        Args:
            anchors: (P, 4).
            match: int64 (P,), see :class:`MaxIoUMatcher`.
            boxes: (n, 4).
            labels: int64 (n,), classes from 0.

        Returns:
            classes int8 (P, K) and the deltas (N, 4) of the anchors with ``match >= 0``.
        """
        positive = match >= 0
        encoded = torch.zeros_like(match)  # background
        if len(boxes):
            encoded = torch.where(positive, labels[match.clamp(min=0)] + 1, encoded)
            encoded = torch.where(match < BACKGROUND, -1 - labels[ignored_index(match).clamp(min=0)], encoded)
        deltas = self.bbox_encoder.encode(anchors[positive], boxes[match[positive]])
        return self.class_encoder(encoded), deltas


@register
class BBoxTargetGenerator:
    """Matches anchors with boxes and encodes the matches.

    Args:
        matcher: which anchor learns which box.
        label_encoder: in which form.
    """

    def __init__(self, *, matcher: MaxIoUMatcher, label_encoder: MatchLabelSepEncoder) -> None:
        self.matcher = matcher
        self.label_encoder = label_encoder

    @torch.no_grad()
    def __call__(self, anchors: Tensor, gt_boxes: Tensor, gt_labels: Tensor) -> AnchorTargets:
        """Targets of a batch.

        Args:
            anchors: float32 (P, 4), the same for each image.
            gt_boxes: (B, M, 4) xyxy.
            gt_labels: int64 (B, M), -1 where padded.
        """
        classes, positive, deltas = [], [], []
        covered = torch.zeros((), dtype=torch.int64, device=anchors.device)
        num_boxes = 0
        for boxes, labels in zip(gt_boxes, gt_labels, strict=True):
            real = labels >= 0
            boxes, labels = boxes[real].to(anchors.dtype), labels[real]
            match, best = self.matcher(anchors, boxes)
            columns, encoded = self.label_encoder(anchors, match, boxes, labels)
            classes.append(columns)
            positive.append(match >= 0)
            deltas.append(encoded)
            num_boxes += len(boxes)
            covered = covered + (best >= self.matcher.pos_iou).sum()
        return AnchorTargets(torch.stack(classes), torch.stack(positive), torch.cat(deltas), num_boxes, covered)
