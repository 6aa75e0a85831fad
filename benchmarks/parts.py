"""What the rows measure, built from the shipped config as a user's run would build it."""

from __future__ import annotations

import copy
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.dataset import DataFolder
from benchmarks.stepper import Stepper
from hatdet.building import Builder
from hatdet.config.load import load_config

IMAGE_SIZE = (320, 320)
BATCH_SIZE = 8
# They write, read or show something every now and then and are no part of a step.
LEFT_OUT = {"Checkpoint", "Validation", "TensorBoard", "StatsMonitor", "PipelineSwitch", "ResultsCsv", "LossShow"}


@dataclass
class Parts:
    """The nano, its training batches and its training step, on one data set.

    Args:
        config_path: config of the detector.
        data: the data set.
        folder: where temporary files go.
    """

    config_path: Path
    data: DataFolder
    folder: Path

    @functools.cached_property
    def config(self) -> Any:
        """The config with 320x320 images, batch 8, this data set and its number of classes."""
        options = {
            "num_classes": self.data.num_classes,
            "imgsz": IMAGE_SIZE,
            "batch_size": BATCH_SIZE,
            "workers": 0,
            "data_root": str(self.data.root),
            "train_ann_file": str(self.data.ann_file.relative_to(self.data.root)),
            "train_img_prefix": str(self.data.image_dir.relative_to(self.data.root)),
            "work_dir": str(self.folder / "work_dir"),
        }
        return load_config(self.config_path, options)

    def model(self) -> nn.Module:
        """A new detector with the same random weights each time."""
        torch.manual_seed(0)
        model: nn.Module = Builder().build(copy.deepcopy(self.config["model"]))
        return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    def loader(self, transforms: str = "train_transforms", **changes: Any) -> Any:
        """The training loader in this process, with that list of transforms; ``changes`` go to the data set."""
        settings = copy.deepcopy(self.config["data_loader"])
        settings["dataset"] |= {"transforms": copy.deepcopy(self.config[transforms]), **changes}
        return Builder().build(settings)

    @functools.cached_property
    def batch(self) -> dict[str, Any]:
        """One training batch, augmented as in training."""
        batch: dict[str, Any] = next(iter(self.loader()))
        return batch

    def trainer(self, **changes: Any) -> Stepper:
        """The config's float trainer on one batch, with its optimizer, learning rate, EMA and guards.

        Args:
            changes: other values for the trainer's arguments.
        """
        settings = dict(self.config["float_trainer"])
        callbacks = [callback for callback in settings["callbacks"] if type_name(callback) not in LEFT_OUT]
        settings |= {"model": self.model(), "callbacks": callbacks, "model_convert_pipeline": None}
        for key in ("train_metrics", "val_metrics", "val_data_loader"):
            settings.pop(key, None)
        return Stepper(settings | changes, self.batch)


def type_name(settings: Any) -> str:
    """The class name in a config dict."""
    kind = settings["type"]
    return kind if isinstance(kind, str) else str(kind.__name__)
