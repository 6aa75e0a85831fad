"""Pure functions on tensors: overlap of boxes, non-maximum suppression."""

from hatdet.utils.lazy import names_of

__getattr__ = names_of(
    __name__,
    {
        "boxes": "aligned_giou aligned_iou box_area pairwise_giou pairwise_iou",
        "nms": "batched_nms",
    },
)
