"""Checkpoints of small detectors that others learn of."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from hatdet.building import Builder
from hatdet.config.dump import dump
from hatdet.models.mmdet.building import in_scope
from hatdet.utils.checkpoints.checkpoint import save_checkpoint

NAMES = ("cat", "dog", "bird")


def rtmdet(width: float = 0.125, **more: Any) -> dict[str, Any]:
    """The dict of an RTMDet of three classes; ``width`` 0.125: 32, 0.0625: 16 channels in the neck."""
    channels = int(256 * width)
    return {
        "type": "RTMDet",
        "backbone": {"type": "CSPNeXt", "deepen_factor": 0.167, "widen_factor": width, "channel_attention": False,
                     "use_depthwise": True, "activation": "ReLU6"},
        "neck": {"type": "CSPNeXtPAFPN", "out_channels": channels, "num_csp_blocks": 1, "use_depthwise": True,
                 "activation": "ReLU6"},
        "bbox_head": {"type": "RTMDetSepBNHead", "num_classes": 3, "feat_channels": channels, "strides": (8, 16, 32),
                      "use_depthwise": True, "activation": "ReLU6"},
        "preprocessor": {"type": "DataPreprocessor", "mean": 0.0, "std": 255.0},
        "assigner": {"type": "DynamicSoftLabelAssigner"},
        "loss_cls": {"type": "QualityFocalLoss"},
        "loss_bbox": {"type": "GIoULoss"},
        "post_process": {"type": "RTMDetPostProcess"},
        **more,
    }  # fmt: skip


def built(model: dict[str, Any], seed: int = 0, names: Sequence[str] = NAMES) -> Any:
    """The detector of a dict, of random weights and statistics, with scores that are not all alike."""
    torch.manual_seed(seed)
    detector: Any = Builder().build(copy.deepcopy(model))
    for module in detector.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
            torch.nn.init.normal_(module.running_mean, 0.0, 0.1)
    for name, parameter in detector.named_parameters():
        if "cls" in name and parameter.dim() == 4:
            torch.nn.init.normal_(parameter, 0.0, 0.3)
    detector.classes = tuple(names)
    return detector


def mmdet(model: dict[str, Any]) -> dict[str, Any]:
    """The dict of a detector in MMDetection's vocabulary, with its scope."""
    return in_scope(copy.deepcopy(model))


def checkpoint(path: Path, detector: Any, model: dict[str, Any], names: Sequence[str] = NAMES, **more: Any) -> str:
    """A float training's file of that detector."""
    text = dump({"float_trainer": {"type": "Trainer", "model": model}}, "config", {})
    state = {"state_dict": detector.state_dict(), "config": text, "metadata": {"classes": list(names)}, **more}
    save_checkpoint(path, state)
    return str(path)
