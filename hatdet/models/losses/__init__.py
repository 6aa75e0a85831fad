"""Training losses."""

from hatdet.utils.lazy import names_of

__getattr__ = names_of(
    __name__,
    {
        "focal_loss": "FocalLossV2",
        "iou_loss": "GIoULoss",
        "quality_focal_loss": "QualityFocalLoss",
        "reduce": "mean_over_ranks",
        "smooth_l1_loss": "SmoothL1Loss",
    },
)
