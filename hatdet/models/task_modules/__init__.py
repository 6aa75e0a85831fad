"""Priors, assigners, box coders, preprocessing and post-processing."""

from hatdet.models.task_modules.assign_result import AssignResult
from hatdet.models.task_modules.coders import DistancePointBBoxCoder
from hatdet.models.task_modules.dynamic_soft_label_assigner import DynamicSoftLabelAssigner
from hatdet.models.task_modules.post_process import RTMDetPostProcess
from hatdet.models.task_modules.preprocessor import DataPreprocessor
from hatdet.models.task_modules.priors import MlvlPointGenerator

__all__ = [
    "AssignResult",
    "DataPreprocessor",
    "DistancePointBBoxCoder",
    "DynamicSoftLabelAssigner",
    "MlvlPointGenerator",
    "RTMDetPostProcess",
]
