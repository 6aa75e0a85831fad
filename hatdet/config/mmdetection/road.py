"""The four stages that a config in MMDetection's vocabulary becomes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hatdet.config.mmdetection.data.evaluators import VOC

TRAINERS = ("float_trainer", "calibration_trainer", "qat_trainer", "int_infer")

ARITHMETIC = "tflite_ref"
"""What integers follow where a config does not say it (``hatdet.integer.arithmetic.PROFILE``)."""

CALIBRATION: Mapping[str, Any] = {
    "calibration_observer": "mse",
    "equalize": False,
    "bias_correction": False,
    "weight_rounding": "nearest",
}
"""How calibration finds ranges and what it does to weights where a config does not say it."""

WEIGHTS: Mapping[str, Any] = {"weight_bits": 8, "flash_budget": 0.55, "qat_scales": "auto"}
"""The same of bits and scales of weights, in all stages in integers (``ModelConvertPipeline``)."""

Part = dict[str, Any]


def settings(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> Part:
    """What a config says of these settings, else their defaults."""
    return {name: values.get(name, value) for name, value in defaults.items()}


@dataclass(frozen=True)
class Road:
    """What the stages are made of.

    Attributes:
        folder: where checkpoints go.
        model: hatdet's dict.
        image_size: (h, w) of the integer model.
        data_loader, val_data_loader, calibration_data_loader, val_metrics: dicts.
        optimizer: dict.
        length: ``num_epochs`` or ``num_steps`` of the float training.
        qat_length: of the training in integers.
        start: what is loaded before the float training.
        schedule: callbacks that set the learning rate of the float training.
        while_training: callbacks of the trainings that stand before the validation.
        float_only: the same, of the float training alone.
        after_validation: callbacks of the float training that look at what was measured.
        validation, qat_validation: the callbacks that score while training.
        checkpoint: arguments of the Checkpoint callback while training.
        log_interval: steps between two lines of the log.
        batch_processor: arguments of the batch processor of the float training.
        trainer: further arguments of both trainings.
        arithmetic: whose kernels the integers follow, in all stages that have them.
        teacher: float checkpoint of a detector that the float training learns of too.
        qat_teacher: the same of the training in integers; ``"float"``: of the float model that it begins with.
        calibration, weights: the settings of :data:`CALIBRATION` and of :data:`WEIGHTS`.
    """

    folder: str
    model: Part
    image_size: tuple[int, int]
    data_loader: Part
    val_data_loader: Part
    calibration_data_loader: Part
    val_metrics: Part
    optimizer: Part
    length: Mapping[str, Any]
    qat_length: Mapping[str, Any]
    start: Sequence[Part] = ()
    schedule: Sequence[Part] = ()
    while_training: Sequence[Part] = ()
    float_only: Sequence[Part] = ()
    after_validation: Sequence[Part] = ()
    validation: Part = field(default_factory=lambda: {"type": "Validation"})
    qat_validation: Part = field(default_factory=lambda: {"type": "Validation", "val_on_train_begin": True})
    checkpoint: Mapping[str, Any] = field(default_factory=dict)
    log_interval: int = 50
    batch_processor: Mapping[str, Any] = field(default_factory=dict)
    trainer: Mapping[str, Any] = field(default_factory=dict)
    arithmetic: str = ARITHMETIC
    teacher: str | None = None
    qat_teacher: str | None = None
    calibration: Mapping[str, Any] = field(default_factory=lambda: CALIBRATION)
    weights: Mapping[str, Any] = field(default_factory=lambda: WEIGHTS)

    def stages(self) -> dict[str, Any]:
        """``float_trainer``, ``calibration_trainer``, ``qat_trainer``, ``int_infer``."""
        float_trainer = {
            "type": "distributed_data_parallel_trainer",
            **self._common("float", self.schedule),
            "model_convert_pipeline": _pipeline(*self.start),
            "data_loader": self.data_loader,
            "optimizer": self.optimizer,
            **self.length,
            "sync_bn": True,
            **self.trainer,
        }
        float_weights = {"type": "LoadCheckpoint", "checkpoint_path": self._path("float")}
        qat = {"type": "Float2QAT", "calibration_checkpoint": self._path("calibration")}
        gentle = {"type": "CosLrUpdater", "warmup_len": 0.05, "warmup_by": "fraction", "min_lr_ratio": 0.05}
        observer = {"activation_calibration_observer": self.calibration["calibration_observer"]}
        refining = {key: value for key, value in self.calibration.items() if key != "calibration_observer"}
        calibration = self._integers(float_weights, {"type": "FuseBN"}, {"type": "Float2Calibration"})
        calibration["qconfig_params"] |= observer | refining
        without_length = {key: value for key, value in float_trainer.items() if key not in self.length}
        return {
            "float_trainer": float_trainer,
            "calibration_trainer": {
                "type": "Calibrator",
                **self._common("calibration", None),
                "model_convert_pipeline": calibration,
                "data_loader": self.calibration_data_loader,
                "num_steps": 16,
            },
            "qat_trainer": {
                **without_length,
                **self._common("qat", [gentle]),
                "model_convert_pipeline": self._integers(float_weights, {"type": "FuseBN"}, qat),
                "optimizer": {**self.optimizer, "lr": self.optimizer["lr"] / 10},
                **self.qat_length,
            },
            "int_infer": self._predictor(),
        }

    def _predictor(self) -> Part:
        stored = {"type": "LoadCheckpoint", "checkpoint_path": [self._path(s) for s in ("qat", "calibration")]}
        to_integers = {"type": "QAT2Int", "image_size": self.image_size}
        return {
            "type": "Predictor",
            "model": self.model,
            "model_convert_pipeline": self._integers(
                {"type": "FuseBN"}, {"type": "Float2QAT"}, stored, to_integers
            ),
            "data_loader": self.val_data_loader,
            "val_metrics": self.val_metrics,
            "batch_processor": {"type": "BasicBatchProcessor", "need_grad_update": False},
            "device": None,
        }

    def _integers(self, *converters: Part) -> Part:
        """A pipeline that quantizes."""
        said = {name: value for name, value in self.weights.items() if value != WEIGHTS[name]}
        return {**_pipeline(*converters), "qconfig_params": {"arithmetic": self.arithmetic, **said}}

    def _path(self, stage: str) -> str:
        return os.path.join(self.folder, f"{stage}-checkpoint-best.pth.tar")

    def _common(self, stage: str, schedule: Sequence[Part] | None) -> Part:
        """What a training, or where ``schedule`` is None the calibration, has like the others."""
        processor: Part = {"type": "BasicBatchProcessor", "need_grad_update": schedule is not None}
        if stage == "float":
            processor |= self.batch_processor
        elif "grad_accumulation_step" in self.batch_processor and schedule is not None:
            processor["grad_accumulation_step"] = self.batch_processor["grad_accumulation_step"]
        return {
            "model": self.model,
            "batch_processor": processor,
            "device": None,
            "val_data_loader": self.val_data_loader,
            "val_metrics": self.val_metrics,
            "callbacks": self._callbacks(stage, schedule),
        }

    def _taught(self, of_float: bool) -> list[Part]:
        """The callback that adds a teacher's losses; a quantized network shows no maps of its neck."""
        file = self.teacher if of_float else self._path("float") if self.qat_teacher == "float" else self.qat_teacher
        without = {} if of_float else {"feature_weight": 0.0}
        return [{"type": "Distillation", "teacher": {"type": "Teacher", "checkpoint": file, **without}}] if file else []

    def _callbacks(self, stage: str, schedule: Sequence[Part] | None) -> list[Part]:
        saving: Part = {"type": "Checkpoint", "save_dir": self.folder, "name_prefix": stage, "keep": 3}
        if stage == "float":
            saving |= self.checkpoint
        if self.val_metrics["type"] == VOC and saving.get("monitor_metric_key", "AP") == "AP":
            saving["monitor_metric_key"] = "mAP"
        monitor = {"type": "StatsMonitor", "log_freq": self.log_interval}
        if schedule is None:
            return [monitor, {"type": "Validation"}, saving, {"type": "ResultsCsv"}]
        of_float = stage == "float"
        return [
            monitor,
            *schedule,
            *(self.float_only if of_float else [{"type": "FreezeObservers", "fraction": 1 / 3}]),
            *self.while_training,
            *self._taught(of_float),
            {"type": "NanGuard"},
            self.validation if of_float else self.qat_validation,
            *(self.after_validation if of_float else ()),
            saving,
            {"type": "ResultsCsv"},
            {"type": "TensorBoard"},
        ]


def _pipeline(*converters: Part) -> Part:
    return {"type": "ModelConvertPipeline", "qat_mode": "fuse_bn", "converters": list(converters)}
