"""Detectors that are a head and nothing more, under their own names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from hatdet.models.mmdet.detectors.single_stage import SingleStageDetector
from hatdet.models.mmdet.heads.base import DenseHead
from hatdet.models.task_modules.preprocessor import DataPreprocessor
from hatdet.registry import register
from hatdet.utils.annotations import Spec


@register(scope="mmdet")
class RetinaNet(SingleStageDetector):
    """arXiv 1708.02002."""


@register(scope="mmdet")
class FCOS(SingleStageDetector):
    """arXiv 1904.01355."""


@register(scope="mmdet")
class NASFCOS(SingleStageDetector):
    """arXiv 1906.04423."""


@register(scope="mmdet")
class ATSS(SingleStageDetector):
    """arXiv 1912.02424."""


@register(scope="mmdet")
class GFL(SingleStageDetector):
    """Generalized focal loss, arXiv 2006.04388."""


@register(scope="mmdet")
class PAA(SingleStageDetector):
    """Probabilistic anchor assignment, arXiv 2007.08103."""


@register(scope="mmdet")
class VFNet(SingleStageDetector):
    """VarifocalNet, arXiv 2008.13367."""


@register(scope="mmdet")
class TOOD(SingleStageDetector):
    """Task-aligned one-stage object detection, arXiv 2108.07755."""


@register(scope="mmdet")
class DDOD(SingleStageDetector):
    """Disentangle your dense object detector, arXiv 2107.02963."""


@register(scope="mmdet")
class AutoAssign(SingleStageDetector):
    """arXiv 2007.03496."""


@register(scope="mmdet")
class FSAF(SingleStageDetector):
    """Feature selective anchor-free module, arXiv 1903.00621."""


@register(scope="mmdet")
class FOVEA(SingleStageDetector):
    """FoveaBox, arXiv 1904.03797."""


@register(scope="mmdet")
class RepPointsDetector(SingleStageDetector):
    """arXiv 1904.11490."""


@register(scope="mmdet")
class YOLOF(SingleStageDetector):
    """You only look one-level feature, arXiv 2103.09460."""


@register(scope="mmdet")
class YOLOV3(SingleStageDetector):
    """arXiv 1804.02767."""


@register(scope="mmdet")
class YOLOX(SingleStageDetector):
    """arXiv 2107.08430."""


@register(scope="mmdet")
class RTMDet(SingleStageDetector):
    """arXiv 2212.07784.

    Args:
        use_syncbn: means nothing here: the trainer takes statistics over all processes (``sync_bn``).
        others: see :class:`SingleStageDetector`.
    """

    def __init__(
        self,
        *,
        backbone: nn.Module,
        neck: nn.Module | None = None,
        bbox_head: DenseHead,
        train_cfg: dict[str, Any] | None = None,
        test_cfg: Spec | None = None,
        data_preprocessor: DataPreprocessor | None = None,
        init_cfg: Spec | None = None,
        use_syncbn: bool = True,
        classes: Sequence[str] = (),
    ) -> None:
        super().__init__(
            backbone=backbone, neck=neck, bbox_head=bbox_head, train_cfg=train_cfg, test_cfg=test_cfg,
            data_preprocessor=data_preprocessor, init_cfg=init_cfg, classes=classes,
        )  # fmt: skip


@register(scope="mmdet")
class CenterNet(SingleStageDetector):
    """Objects as points, arXiv 1904.07850."""


@register(scope="mmdet")
class CornerNet(SingleStageDetector):
    """Paired keypoints, arXiv 1808.01244 (CentripetalNet too, arXiv 2003.09119)."""
