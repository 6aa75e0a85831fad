"""Priors, assigners, box coders, preprocessing and post-processing."""

from hatdet.models.task_modules.anchors import AnchorGenerator
from hatdet.models.task_modules.assign_result import AssignResult
from hatdet.models.task_modules.coders import DistancePointBBoxCoder
from hatdet.models.task_modules.dynamic_soft_label_assigner import DynamicSoftLabelAssigner
from hatdet.models.task_modules.encoders import OneHotClassEncoder, XYWHBBoxEncoder
from hatdet.models.task_modules.max_iou_matcher import MaxIoUMatcher
from hatdet.models.task_modules.multi_stride_filter import RetinanetMultiStrideFilter
from hatdet.models.task_modules.post_process import RTMDetPostProcess
from hatdet.models.task_modules.preprocessor import DataPreprocessor
from hatdet.models.task_modules.priors import MlvlPointGenerator
from hatdet.models.task_modules.retinanet_post_process import AnchorLevel, RetinaNetPostProcess
from hatdet.models.task_modules.target_generator import AnchorTargets, BBoxTargetGenerator, MatchLabelSepEncoder

__all__ = [
    "AnchorGenerator",
    "AnchorLevel",
    "AnchorTargets",
    "AssignResult",
    "BBoxTargetGenerator",
    "DataPreprocessor",
    "DistancePointBBoxCoder",
    "DynamicSoftLabelAssigner",
    "MatchLabelSepEncoder",
    "MaxIoUMatcher",
    "MlvlPointGenerator",
    "OneHotClassEncoder",
    "RTMDetPostProcess",
    "RetinaNetPostProcess",
    "RetinanetMultiStrideFilter",
    "XYWHBBoxEncoder",
]
