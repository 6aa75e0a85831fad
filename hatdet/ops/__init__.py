"""Pure functions on tensors: overlap of boxes, non-maximum suppression."""

from hatdet.ops.boxes import aligned_giou, aligned_iou, box_area, pairwise_giou, pairwise_iou
from hatdet.ops.nms import batched_nms

__all__ = ["aligned_giou", "aligned_iou", "batched_nms", "box_area", "pairwise_giou", "pairwise_iou"]
