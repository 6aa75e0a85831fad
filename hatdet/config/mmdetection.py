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
from collections.abc import Mapping, Sequence
from typing import Any

from hatdet.config.mmdetection_model import translate_model
from hatdet.config.vocabulary import Reader
from hatdet.utils.errors import ConfigError

_IMPLIED = ("LoadAnnotations", "DefaultFormatBundle", "ImageToTensor", "Collect", "PackDetInputs")
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
    train_part, val_part = _dataset(train), _dataset(val)
    pixels = val_part["pixels"]
    model, pretrained, freeze_norms = translate_model(values["model"], pixels)
    load_from = values.get("load_from") or pretrained
    loaders = {
        "data_loader": _loader(train_part, batch, workers, True),
        "val_data_loader": _loader(val_part, batch, workers, False),
        "calibration_data_loader": _loader({**train_part, "transforms": val_part["transforms"]}, batch, workers, True),
    }
    road = _Road(values, model, loaders, val_part["size"], load_from, freeze_norms)
    return {"model": model, **loaders, **road.trainers()}


def _dataset(reader: Reader) -> dict[str, Any]:
    """transforms, input size, pixel statistics and the data set's dict (without transforms)."""
    kind = reader.take("type", str)
    if kind != "CocoDataset":
        raise ConfigError(f"{reader.path}.type: {kind!r} has no counterpart; use CocoDataset (COCO json and images)")
    ann_file, prefix = reader.take("ann_file", str), reader.take("img_prefix", str)
    classes = reader.take("classes", (list, tuple), None)
    transforms, size, pixels = _pipeline(reader.take("pipeline", list), f"{reader.path}.pipeline")
    reader.finish()
    root = os.path.dirname(prefix.rstrip("/")) or "."
    dataset: dict[str, Any] = {
        "type": "CocoDataset",
        "data_root": root,
        "ann_file": os.path.abspath(ann_file) if not os.path.isabs(ann_file) else ann_file,
        "img_prefix": os.path.relpath(prefix, root),
    }
    if classes is not None:
        dataset["classes"] = list(classes)
    return {"dataset": dataset, "transforms": transforms, "size": size, "pixels": pixels}


def _pipeline(steps: Sequence[Any], path: str) -> tuple[list[dict[str, Any]], tuple[int, int], dict[str, Any]]:
    """MMDetection's pipeline as hatdet's transforms; (h, w) that pictures fit into; mean, std, to_rgb."""
    transforms: list[dict[str, Any]] = []
    size: tuple[int, int] | None = None
    pixels: dict[str, Any] = {}
    color = "bgr"
    for i, step in enumerate(steps):
        reader = Reader(dict(step), f"{path}.{i}")
        kind = reader.take("type", str)
        if kind == "LoadImageFromFile":
            gray = reader.take("color_type", str, "color") in ("grayscale", "unchanged_grayscale")
            color = "gray" if gray else color
            reader.ignore_all()
        elif kind in _IMPLIED:
            reader.ignore_all()
        elif kind == "MultiScaleFlipAug":
            if reader.take("flip", bool, False):
                raise ConfigError(
                    f"{path}.{i}.flip: test-time augmentation is asked for by predict.py --tta; "
                    "set flip=False"
                )
            scale = reader.take("img_scale", (list, tuple))
            inner = [dict(t, img_scale=scale) if t["type"] == "Resize" else t for t in reader.take("transforms", list)]
            inner = [dict(t, flip_ratio=0.0) if t["type"] == "RandomFlip" else t for t in inner]
            more, size, pixels = _pipeline(inner, f"{path}.{i}.transforms")
            transforms += more[:-1]  # the tensor is made once
        elif kind == "Resize":
            width, height = _one_scale(reader)
            size = (min(width, height), max(width, height))
            keep = reader.take("keep_ratio", bool, False)
            transforms.append({"type": "Resize", "img_scale": size, "keep_ratio": keep, "either_way": True})
        elif kind == "RandomFlip":
            ratio = reader.take("flip_ratio", (int, float), None)
            ratio = reader.take("prob", (int, float), 0.5) if ratio is None else ratio
            if ratio:
                transforms.append({"type": "RandomFlip", "px": float(ratio)})
        elif kind == "Normalize":
            pixels = {"mean": reader.take("mean", (list, tuple)), "std": reader.take("std", (list, tuple))}
            pixels["bgr_to_rgb"] = reader.take("to_rgb", bool, True)
        elif kind == "Pad":
            reader.take("size_divisor", int, 32)  # the collation pads
        else:
            raise ConfigError(
                f"{path}.{i}.type: {kind!r} has no counterpart here; MMDetection's Resize, RandomFlip, Normalize, Pad "
                "and MultiScaleFlipAug do. hatdet's own transforms go into float_trainer.data_loader"
            )
        reader.finish()
    if size is None or not pixels:
        raise ConfigError(f"{path}: a pipeline needs Resize and Normalize")
    return [*transforms, {"type": "ToTensor", "color": color}], size, {**pixels, "input_color": color}


def _one_scale(reader: Reader) -> tuple[int, int]:
    scale = reader.take("img_scale", (list, tuple))
    if len(scale) != 2 or not all(isinstance(side, int) for side in scale):
        raise ConfigError(f"{reader.path}.img_scale: one (width, height) is supported, got {scale!r}; give one of them")
    return int(scale[0]), int(scale[1])


def _loader(part: Mapping[str, Any], batch: int, workers: int, training: bool) -> dict[str, Any]:
    import torch

    dataset = {**part["dataset"], "transforms": part["transforms"], **({} if training else {"test_mode": True})}
    return {
        "type": torch.utils.data.DataLoader,
        "dataset": dataset,
        "sampler": {"type": "SeededSampler", "shuffle": training},
        "batch_size": batch,
        "num_workers": workers,
        "drop_last": training,
        "collate_fn": {"type": "Collate2D", "size_divisor": 32},
    }


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
        self.optimizer = _optimizer(values["optimizer"])
        self.clip = _clip(values.get("optimizer_config"))
        self.schedule = _schedule(values.get("lr_config"))
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


def _optimizer(config: Mapping[str, Any]) -> dict[str, Any]:
    """``dict(type='SGD', ...)`` with the class of torch.optim; decay multipliers as hatdet's ``paramwise``."""
    import torch

    reader = Reader(dict(config), "optimizer")
    kind = reader.one_of("type", ("SGD", "Adam", "AdamW", "RMSprop"))
    result = {"type": getattr(torch.optim, kind), "lr": reader.take("lr", (int, float))}
    for key in ("momentum", "weight_decay", "betas", "nesterov", "eps"):
        value = reader.take(key, object, None)
        if value is not None:
            result[key] = value
    paramwise = Reader(dict(reader.take("paramwise_cfg", dict, None) or {}), "optimizer.paramwise_cfg")
    decay = float(result.get("weight_decay", 0.0))
    factors = {"norm_decay": "norm_decay_mult", "bias_decay": "bias_decay_mult"}
    found = {ours: paramwise.take(theirs, (int, float), None) for ours, theirs in factors.items()}
    paramwise.finish()
    reader.finish()
    if any(value is not None for value in found.values()):
        result["paramwise"] = {name: decay * value for name, value in found.items() if value is not None}
    return result


def _clip(config: Mapping[str, Any] | None) -> dict[str, Any] | None:
    reader = Reader(dict(config or {}), "optimizer_config")
    clip = reader.take("grad_clip", dict, None)
    reader.finish()
    if clip is None:
        return None
    inner = Reader(dict(clip), "optimizer_config.grad_clip")
    result = {"type": "GradClip", "max_norm": inner.take("max_norm", (int, float))}
    result["norm_type"] = inner.take("norm_type", (int, float), 2)
    inner.finish()
    return result


def _schedule(config: Mapping[str, Any] | None) -> dict[str, Any]:
    reader = Reader(dict(config or {"policy": "step", "step": []}), "lr_config")
    policy = reader.one_of("policy", ("step", "CosineAnnealing"))
    warmup: dict[str, Any] = {}
    if reader.take("warmup", str, None) is not None:
        warmup = {
            "warmup_by": "step",
            "warmup_len": reader.take("warmup_iters", int, 0),
            "warmup_start_factor": reader.take("warmup_ratio", (int, float), 0.1),
        }
    else:
        reader.take("warmup_iters", int, 0), reader.take("warmup_ratio", (int, float), 0.1)
    if policy == "step":
        steps = reader.take("step", (list, tuple, int))
        steps = [steps] if isinstance(steps, int) else list(steps)
        factor = reader.take("gamma", (int, float), 0.1)
        result = {"type": "StepDecayLrUpdater", "lr_decay_id": steps, "lr_decay_factor": factor}
    else:
        result = {"type": "CosLrUpdater", "min_lr_ratio": reader.take("min_lr_ratio", (int, float), 0.0)}
    reader.finish()
    return {**result, **warmup}
