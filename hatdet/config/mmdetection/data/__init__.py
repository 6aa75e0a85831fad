"""The data half of configs in MMDetection's vocabulary."""

from hatdet.config.mmdetection.data.retinanet import data_loader, translate_dataset

__all__ = ["data_loader", "translate_dataset"]
