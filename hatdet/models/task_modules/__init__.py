"""Priors, assigners, box coders, preprocessing and post-processing."""

from hatdet.utils.lazy import names_of

__getattr__ = names_of(
    __name__,
    {
        "anchors": "AnchorGenerator",
        "assign_result": "AssignResult",
        "coders": "DistancePointBBoxCoder",
        "dynamic_soft_label_assigner": "DynamicSoftLabelAssigner",
        "encoders": "OneHotClassEncoder XYWHBBoxEncoder",
        "max_iou_matcher": "MaxIoUMatcher",
        "multi_stride_filter": "RetinanetMultiStrideFilter",
        "post_process": "RTMDetPostProcess",
        "preprocessor": "DataPreprocessor",
        "priors": "MlvlPointGenerator",
        "retinanet_post_process": "RetinaNetPostProcess",
        "target_generator": "AnchorTargets BBoxTargetGenerator MatchLabelSepEncoder",
    },
)
