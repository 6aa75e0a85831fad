"""Training losses."""

from hatdet.models.losses.iou_loss import GIoULoss
from hatdet.models.losses.quality_focal_loss import QualityFocalLoss
from hatdet.models.losses.reduce import mean_over_ranks

__all__ = ["GIoULoss", "QualityFocalLoss", "mean_over_ranks"]
