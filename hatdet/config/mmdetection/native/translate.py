"""Configs in the words of MMDetection 2 with hatdet's own RetinaNet: translated into hatdet's trainers.

A file that assigns ``_vocabulary_ = "mmdetection"`` (``configs/_base_/default_runtime.py`` does) may say ``model``,
``data``, ``optimizer``, ``lr_config``, ``runner``, ... as MMDetection's files do, in as many ``_base_`` files as it
likes. After all files and options have been applied, :func:`translate` makes ``float_trainer``,
``calibration_trainer``, ``qat_trainer`` and ``int_infer`` of them; everything after that is the ordinary road. What
has no counterpart is refused by name, nothing is dropped in silence.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any

from hatdet.config.mmdetection.data.retinanet import data_loader, translate_dataset
from hatdet.config.mmdetection.native.model import translate_model
from hatdet.config.mmdetection.native.schedule import translate_clip, translate_optimizer, translate_schedule
from hatdet.config.mmdetection.reader import Reader
from hatdet.config.mmdetection.road import ARITHMETIC, CALIBRATION, WEIGHTS, Road, settings
from hatdet.utils.errors import ConfigError


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
    height, width = (-(-side // 32) * 32 for side in val_part["size"])
    frozen = {"type": "FreezeModule", "modules": ["backbone"], "only_batchnorm": True}
    road = _road(values, model, loaders, (height, width))
    road = dataclasses.replace(road, start=[_start(load_from)] if load_from else [])
    road = dataclasses.replace(road, float_only=[frozen] if freeze_norms else [])
    return {"model": model, **loaders, **road.stages()}


def _start(path: str) -> dict[str, Any]:
    return {"type": "LoadCheckpoint", "checkpoint_path": path, "allow_miss": True, "ignore_extra": True}


def _road(
    values: Mapping[str, Any], model: dict[str, Any], loaders: dict[str, Any], image_size: tuple[int, int]
) -> Road:
    """The four stages but for what they start from."""
    runner = Reader(dict(values["runner"]), "runner")
    runner.one_of("type", ("EpochBasedRunner",))
    epochs = runner.take("max_epochs", int)
    runner.finish()
    _check_rest(values)
    validation = {"type": "Validation", "val_interval": _interval(values, "evaluation", {"metric": "bbox"})}
    clip = translate_clip(values.get("optimizer_config"))
    base = _auto_scale(values)
    return Road(
        folder=str(values["work_dir"]),
        model=model,
        image_size=image_size,
        **loaders,
        val_metrics={"type": "COCODetectionMetric"},
        optimizer=translate_optimizer(values["optimizer"]),
        length={"num_epochs": epochs},
        qat_length={"num_epochs": max(1, epochs // 10)},
        schedule=[translate_schedule(values.get("lr_config"))],
        while_training=[clip] if clip else [],
        validation=validation,
        qat_validation=validation,
        checkpoint={"save_interval": _interval(values, "checkpoint_config", {})},
        log_interval=_log(values),
        trainer={"base_batch_size": base} if base else {},
        arithmetic=values.get("arithmetic", ARITHMETIC),
        teacher=values.get("teacher"),
        qat_teacher=values.get("qat_teacher"),
        calibration=settings(values, CALIBRATION),
        weights=settings(values, WEIGHTS),
    )


def _interval(values: Mapping[str, Any], name: str, fixed: Mapping[str, Any]) -> int:
    reader = Reader(dict(values.get(name) or {}), name)
    interval = reader.take("interval", int, 1)
    for key, value in fixed.items():
        reader.one_of(key, (value, [value]), value)
    reader.finish()
    return int(interval)


def _log(values: Mapping[str, Any]) -> int:
    reader = Reader(dict(values.get("log_config") or {}), "log_config")
    interval = reader.take("interval", int, 50)
    for hook in reader.take("hooks", list, []):
        Reader(dict(hook), "log_config.hooks").one_of("type", ("TextLoggerHook", "TensorboardLoggerHook"))
    reader.finish()
    return int(interval)


def _auto_scale(values: Mapping[str, Any]) -> int | None:
    reader = Reader(dict(values.get("auto_scale_lr") or {}), "auto_scale_lr")
    enabled, base = reader.take("enable", bool, False), reader.take("base_batch_size", int, 16)
    reader.finish()
    return int(base) if enabled else None


def _check_rest(values: Mapping[str, Any]) -> None:
    for i, hook in enumerate(values.get("custom_hooks") or []):
        Reader(dict(hook), f"custom_hooks.{i}").one_of("type", ("NumClassCheckHook",))  # always checked here
    if values.get("resume_from"):
        raise ConfigError(
            "resume_from: resuming is asked for on the command line: tools/train.py CONFIG --resume; "
            "leave resume_from out"
        )
    if values.get("workflow", [("train", 1)]) not in ([("train", 1)], [["train", 1]]):
        raise ConfigError("workflow: only [('train', 1)]; evaluation.interval says when to validate")
