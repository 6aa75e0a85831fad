"""The data half of configs in MMDetection's vocabulary."""

from hatdet.config.mmdetection.data.parts import DataParts
from hatdet.config.mmdetection.data.retinanet import data_loader, translate_dataset
from hatdet.config.mmdetection.data.translate import translate_data

__all__ = ["DataParts", "data_loader", "translate_data", "translate_dataset"]
