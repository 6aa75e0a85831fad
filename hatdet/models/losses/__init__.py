"""Training losses."""

from hatdet.models.losses.focal_loss import FocalLossV2
from hatdet.models.losses.iou_loss import GIoULoss
from hatdet.models.losses.quality_focal_loss import QualityFocalLoss
from hatdet.models.losses.reduce import mean_over_ranks
from hatdet.models.losses.smooth_l1_loss import SmoothL1Loss

__all__ = ["FocalLossV2", "GIoULoss", "QualityFocalLoss", "SmoothL1Loss", "mean_over_ranks"]
