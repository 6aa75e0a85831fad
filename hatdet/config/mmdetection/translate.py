"""Configs in MMDetection's vocabulary (its version 2): translated into hatdet's trainers.

A file that assigns ``_vocabulary_ = "mmdetection"`` (``configs/_base_/default_runtime.py`` does) may say ``model``,
``data``, ``optimizer``, ``lr_config``, ``runner``, ... as MMDetection's files do, in as many ``_base_`` files as it
likes. After all files and options have been applied, :func:`translate` makes ``float_trainer``,
``calibration_trainer``, ``qat_trainer`` and ``int_infer`` of them; everything after that is the ordinary road. What
has no counterpart is refused by name, nothing is dropped in silence.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from typing import Any

from hatdet.config.mmdetection.data import data_loader, translate_dataset
from hatdet.config.mmdetection.model import translate_model
from hatdet.config.mmdetection.reader import Reader
from hatdet.config.mmdetection.schedule import translate_clip, translate_optimizer, translate_schedule
from hatdet.utils.errors import ConfigError

TRAINERS = ("float_trainer", "calibration_trainer", "qat_trainer", "int_infer")


def translate(values: Mapping[str, Any]) -> dict[str, Any]:
    """hatdet's names for a config in MMDetection's vocabulary: the trainers, their loaders, and ``model``.

    Args:
        values: all public names of the config, options applied; ``work_dir`` among them.

    Raises:
        ConfigError: a part is missing, or something in it has no counterpart; with the path of the key.
    """
    missing = [name for name in ("model", "data", "optimizer", "runner") if name not in values]
    if missing:
        raise ConfigError(
            f"a config in MMDetection's vocabulary needs {', '.join(missing)}: list the base files that have them in "
            "_base_ (../_base_/models/..., datasets/..., schedules/..., default_runtime.py)"
        )
    data = Reader(copy.deepcopy(values["data"]), "data")
    batch, workers = data.take("samples_per_gpu", int), data.take("workers_per_gpu", int, 2)
    train, val = data.reader("train"), data.reader("val")
    data.reader("test", {}).ignore_all()  # the validation set is what hatdet scores
    data.finish()
    train_part, val_part = translate_dataset(train), translate_dataset(val)
    pixels = val_part["pixels"]
    model, pretrained, freeze_norms = translate_model(values["model"], pixels)
    load_from = values.get("load_from") or pretrained
    calibration = {**train_part, "transforms": val_part["transforms"]}
    loaders = {
        "data_loader": data_loader(train_part, batch, workers, True),
        "val_data_loader": data_loader(val_part, batch, workers, False),
        "calibration_data_loader": data_loader(calibration, batch, workers, True),
    }
    road = _Road(values, model, loaders, val_part["size"], load_from, freeze_norms)
    return {"model": model, **loaders, **road.trainers()}


class _Road:
    """The four stages of a translated config."""

    def __init__(
        self,
        values: Mapping[str, Any],
        model: dict[str, Any],
        loaders: Mapping[str, Any],
        size: tuple[int, int],
        load_from: str | None,
        freeze_norms: bool,
    ) -> None:
        self.model, self.loaders, self.load_from, self.freeze_norms = model, loaders, load_from, freeze_norms
        self.folder = str(values["work_dir"])
        self.image_size = tuple(-(-side // 32) * 32 for side in size)
        runner = Reader(dict(values["runner"]), "runner")
        runner.one_of("type", ("EpochBasedRunner",))
        self.epochs = runner.take("max_epochs", int)
        runner.finish()
        self.interval = self._interval(values, "evaluation", {"metric": "bbox"})
        self.save_interval = self._interval(values, "checkpoint_config", {})
        self.log_interval = self._log(values)
        self.base_batch = self._auto_scale(values)
        self.optimizer = translate_optimizer(values["optimizer"])
        self.clip = translate_clip(values.get("optimizer_config"))
        self.schedule = translate_schedule(values.get("lr_config"))
        self._rest(values)

    @staticmethod
    def _interval(values: Mapping[str, Any], name: str, fixed: Mapping[str, Any]) -> int:
        reader = Reader(dict(values.get(name) or {}), name)
        interval = reader.take("interval", int, 1)
        for key, value in fixed.items():
            reader.one_of(key, (value, [value]), value)
        reader.finish()
        return int(interval)

    @staticmethod
    def _log(values: Mapping[str, Any]) -> int:
        reader = Reader(dict(values.get("log_config") or {}), "log_config")
        interval = reader.take("interval", int, 50)
        for hook in reader.take("hooks", list, []):
            Reader(dict(hook), "log_config.hooks").one_of("type", ("TextLoggerHook", "TensorboardLoggerHook"))
        reader.finish()
        return int(interval)

    @staticmethod
    def _auto_scale(values: Mapping[str, Any]) -> int | None:
        reader = Reader(dict(values.get("auto_scale_lr") or {}), "auto_scale_lr")
        enabled, base = reader.take("enable", bool, False), reader.take("base_batch_size", int, 16)
        reader.finish()
        return int(base) if enabled else None

    @staticmethod
    def _rest(values: Mapping[str, Any]) -> None:
        for i, hook in enumerate(values.get("custom_hooks") or []):
            Reader(dict(hook), f"custom_hooks.{i}").one_of("type", ("NumClassCheckHook",))  # always checked here
        if values.get("resume_from"):
            raise ConfigError(
                "resume_from: resuming is asked for on the command line: tools/train.py CONFIG --resume; "
                "leave resume_from out"
            )
        if values.get("workflow", [("train", 1)]) not in ([("train", 1)], [["train", 1]]):
            raise ConfigError("workflow: only [('train', 1)]; evaluation.interval says when to validate")

    def _checkpoint(self, stage: str) -> str:
        return os.path.join(self.folder, f"{stage}-checkpoint-best.pth.tar")

    def _pipeline(self, *converters: dict[str, Any]) -> dict[str, Any]:
        return {"type": "ModelConvertPipeline", "qat_mode": "fuse_bn", "converters": list(converters)}

    def _callbacks(self, stage: str, schedule: dict[str, Any] | None) -> list[dict[str, Any]]:
        training = schedule is not None
        saving = {"type": "Checkpoint", "save_dir": self.folder, "name_prefix": stage, "keep": 3}
        validating: dict[str, Any] = {"type": "Validation"}
        if training:
            saving["save_interval"] = self.save_interval
            validating["val_interval"] = self.interval
        callbacks: list[dict[str, Any] | None] = [
            {"type": "StatsMonitor", "log_freq": self.log_interval},
            schedule,
            self.clip if training else None,
            {"type": "NanGuard"} if training else None,
            {"type": "FreezeModule", "modules": ["backbone"], "only_batchnorm": True}
            if stage == "float" and self.freeze_norms
            else None,
            {"type": "FreezeObservers", "fraction": 1 / 3} if stage == "qat" else None,
            validating,
            saving,
            {"type": "ResultsCsv"},
            {"type": "TensorBoard"} if training else None,
        ]
        return [callback for callback in callbacks if callback is not None]

    def _common(self, stage: str, schedule: dict[str, Any] | None) -> dict[str, Any]:
        return {
            "model": self.model,
            "batch_processor": {"type": "BasicBatchProcessor", "need_grad_update": schedule is not None},
            "device": None,
            "val_data_loader": self.loaders["val_data_loader"],
            "val_metrics": {"type": "COCODetectionMetric"},
            "callbacks": self._callbacks(stage, schedule),
        }

    def trainers(self) -> dict[str, Any]:
        """``float_trainer``, ``calibration_trainer``, ``qat_trainer``, ``int_infer``."""
        float_weights = {"type": "LoadCheckpoint", "checkpoint_path": self._checkpoint("float")}
        start = {"type": "LoadCheckpoint", "checkpoint_path": self.load_from, "allow_miss": True, "ignore_extra": True}
        qat_epochs = max(1, self.epochs // 10)
        gentle = {"type": "CosLrUpdater", "warmup_len": 0.05, "warmup_by": "fraction", "min_lr_ratio": 0.05}
        float_trainer = {
            "type": "distributed_data_parallel_trainer",
            **self._common("float", self.schedule),
            "model_convert_pipeline": self._pipeline(*([start] if self.load_from else [])),
            "data_loader": self.loaders["data_loader"],
            "optimizer": self.optimizer,
            "num_epochs": self.epochs,
            "sync_bn": True,
            **({"base_batch_size": self.base_batch} if self.base_batch else {}),
        }
        calibration = {"type": "Float2Calibration"}
        qat = {"type": "Float2QAT", "calibration_checkpoint": self._checkpoint("calibration")}
        stored = {"type": "LoadCheckpoint", "checkpoint_path": [self._checkpoint(s) for s in ("qat", "calibration")]}
        to_integers = {"type": "QAT2Int", "image_size": self.image_size}
        return {
            "float_trainer": float_trainer,
            "calibration_trainer": {
                "type": "Calibrator",
                **self._common("calibration", None),
                "model_convert_pipeline": self._pipeline(float_weights, {"type": "FuseBN"}, calibration),
                "data_loader": self.loaders["calibration_data_loader"],
                "num_steps": 16,
            },
            "qat_trainer": {
                **float_trainer,
                **self._common("qat", gentle),
                "model_convert_pipeline": self._pipeline(float_weights, {"type": "FuseBN"}, qat),
                "optimizer": {**self.optimizer, "lr": self.optimizer["lr"] / 10},
                "num_epochs": qat_epochs,
            },
            "int_infer": {
                "type": "Predictor",
                "model": self.model,
                "model_convert_pipeline": self._pipeline(
                    {"type": "FuseBN"}, {"type": "Float2QAT"}, stored, to_integers
                ),
                "data_loader": self.loaders["val_data_loader"],
                "val_metrics": {"type": "COCODetectionMetric"},
                "batch_processor": {"type": "BasicBatchProcessor", "need_grad_update": False},
                "device": None,
            },
        }
