"""RetinaNet's names for the settings of the post-processing."""

from __future__ import annotations

from typing import ClassVar

from hatdet.models.task_modules.post_process import DetectionPostProcess
from hatdet.registry import register


@register
class RetinaNetPostProcess(DetectionPostProcess):
    """RetinaNet's, under its own names: each class of an anchor is a candidate, boxes are suppressed.

    Args:
        score_thresh: (anchor, class) pairs with a score above it are candidates.
        nms_thresh: a box is dropped where its IoU with a better one of its class is greater.
        detections_per_img: detections kept of an image.
        topk_candidates: candidates kept of each level, the best ones.

    Raises:
        ValueError: numbers out of range.
    """

    names: ClassVar[dict[str, str]] = {
        "score_thr": "score_thresh",
        "iou_threshold": "nms_thresh",
        "max_per_img": "detections_per_img",
        "nms_pre": "topk_candidates",
    }

    def __init__(
        self,
        *,
        score_thresh: float = 0.05,
        nms_thresh: float = 0.5,
        detections_per_img: int = 300,
        topk_candidates: int = 1000,
    ) -> None:
        super().__init__(
            score_thr=score_thresh, iou_threshold=nms_thresh, max_per_img=detections_per_img, nms_pre=topk_candidates
        )
