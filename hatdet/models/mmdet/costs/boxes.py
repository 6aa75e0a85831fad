"""Costs of places and classes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from hatdet.models.mmdet.overlaps import bbox_overlaps
from hatdet.registry import register


class BaseMatchCost(ABC):
    """The cost of each prediction for each ground truth.

    Args:
        weight: the cost is multiplied by it.
    """

    def __init__(self, weight: float = 1.0) -> None:
        self.weight = weight

    @abstractmethod
    def __call__(self, pred_instances: Any, gt_instances: Any, img_meta: Mapping[str, Any] | None = None) -> Tensor:
        """Predictions (n), ground truths (m) -> (n, m).

        Args:
            img_meta: ``img_shape`` (h, w) of the picture.
        """


@register(scope="mmdet")
class BBoxL1Cost(BaseMatchCost):
    """L1 distance of boxes in shares of the picture.

    Args:
        box_format: of corners (``xyxy``), or of centre and size (``xywh``).
        weight: see :class:`BaseMatchCost`.
    """

    def __init__(self, box_format: Literal["xyxy", "xywh"] = "xyxy", weight: float = 1.0) -> None:
        super().__init__(weight)
        if box_format not in ("xyxy", "xywh"):
            raise ValueError(f"unknown box_format {box_format!r}; write 'xyxy' or 'xywh'")
        self.box_format = box_format

    def __call__(self, pred_instances: Any, gt_instances: Any, img_meta: Mapping[str, Any] | None = None) -> Tensor:
        """Of ``bboxes`` (n, 4) and (m, 4) xyxy in pixels: (n, m)."""
        if img_meta is None:
            raise ValueError("BBoxL1Cost measures in shares of the picture; give img_meta with img_shape")
        height, width = img_meta["img_shape"][:2]
        predicted, boxes = pred_instances.bboxes, gt_instances.bboxes
        if self.box_format == "xywh":
            predicted, boxes = _centre_size(predicted), _centre_size(boxes)
        size = boxes.new_tensor([width, height, width, height])
        return torch.cdist(predicted / size, boxes / size, p=1) * self.weight


def _centre_size(boxes: Tensor) -> Tensor:
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack(((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1), dim=-1)


@register(scope="mmdet")
class IoUCost(BaseMatchCost):
    """Minus the overlap.

    Args:
        iou_mode: see :func:`bbox_overlaps`.
        weight: see :class:`BaseMatchCost`.
    """

    def __init__(self, iou_mode: Literal["iou", "iof", "giou"] = "giou", weight: float = 1.0) -> None:
        super().__init__(weight)
        self.iou_mode = iou_mode

    def __call__(self, pred_instances: Any, gt_instances: Any, img_meta: Mapping[str, Any] | None = None) -> Tensor:
        """Of ``bboxes`` (n, 4) and (m, 4): (n, m); float16 is measured in float32."""
        predicted = pred_instances.bboxes
        wide = predicted.float() if predicted.dtype == torch.float16 else predicted
        return -bbox_overlaps(wide, gt_instances.bboxes, self.iou_mode).to(predicted.dtype) * self.weight


@register(scope="mmdet")
class ClassificationCost(BaseMatchCost):
    """Minus the probability of the class, after a softmax."""

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__(weight)

    def __call__(self, pred_instances: Any, gt_instances: Any, img_meta: Mapping[str, Any] | None = None) -> Tensor:
        """Of ``scores`` (n, classes), logits, and ``labels`` (m,): (n, m)."""
        return -pred_instances.scores.softmax(-1)[:, gt_instances.labels] * self.weight
