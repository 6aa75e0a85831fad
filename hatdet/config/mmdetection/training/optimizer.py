"""``optim_wrapper`` of version 3; ``optimizer``, ``optimizer_config`` and ``fp16`` of version 2 in its words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hatdet.config.mmdetection.reader import Reader
from hatdet.config.mmdetection.training.notes import Notes
from hatdet.utils.errors import ConfigError

_OPTIMIZERS = ("SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "Adadelta", "Adamax", "NAdam", "RAdam", "ASGD", "Rprop")
_CONSTRUCTORS = ("LearningRateDecayOptimizerConstructor",)
_DTYPES = {"float16": "float16", "half": "float16", "bfloat16": "bfloat16"}


@dataclass(frozen=True)
class Optimizing:
    """Optimizer and what goes with it.

    Attributes:
        optimizer: hatdet's dict; its ``type`` is the path of a class in torch.optim.
        callbacks: gradient clipping.
        batch_processor: arguments of the batch processor: mixed precision, accumulation.
    """

    optimizer: dict[str, Any]
    callbacks: tuple[dict[str, Any], ...] = ()
    batch_processor: Mapping[str, Any] = field(default_factory=dict)


def wrapper_of_version2(values: Mapping[str, Any]) -> dict[str, Any]:
    """What a version 2 config says of its optimizer as an ``optim_wrapper``."""
    optimizer = Reader(dict(values["optimizer"]), "optimizer")
    wrapper: dict[str, Any] = {"type": "OptimWrapper"}
    for key in ("paramwise_cfg", "constructor"):
        found = optimizer.take(key, object, None)
        if found is not None:
            wrapper[key] = found
    wrapper["optimizer"] = dict(optimizer.values)
    config = Reader(dict(values.get("optimizer_config") or {}), "optimizer_config")
    kinds = ("OptimizerHook", "Fp16OptimizerHook", "GradientCumulativeOptimizerHook", "DistOptimizerHook",
             "GradientCumulativeFp16OptimizerHook")  # fmt: skip
    kind = config.one_of("type", kinds, "OptimizerHook")
    clip = config.take("grad_clip", dict, None)
    if clip is not None:
        wrapper["clip_grad"] = clip
    wrapper["accumulative_counts"] = config.take("cumulative_iters", int, 1)
    config.take("detect_anomalous_params", bool, False)
    for key in ("update_interval", "coalesce", "bucket_size_mb", "distributed"):  # of gradients sent between GPUs
        config.take(key, object, None)
    scale = config.take("loss_scale", object, None)
    config.take("mode", str, "dynamic")
    config.finish()
    if values.get("fp16") is not None:
        half = Reader(dict(values["fp16"]), "fp16")
        scale = half.take("loss_scale", object, "dynamic")
        half.finish()
    if values.get("fp16") is not None or "Fp16" in kind:
        wrapper.update(type="AmpOptimWrapper", loss_scale="dynamic" if scale is None else scale)
    return wrapper


def translate_wrapper(wrapper: Mapping[str, Any], notes: Notes, path: str = "optim_wrapper") -> Optimizing:
    """An ``optim_wrapper`` as hatdet's optimizer, callbacks and batch processor.

    Raises:
        ConfigError: what has no counterpart, with its path.
    """
    reader = Reader(dict(wrapper), path)
    kind = reader.one_of("type", ("OptimWrapper", "AmpOptimWrapper"), "OptimWrapper")
    optimizer = _optimizer(reader.reader("optimizer"))
    paramwise = reader.take("paramwise_cfg", dict, None)
    constructor = reader.take("constructor", str, None)
    if constructor is not None and constructor not in ("DefaultOptimWrapperConstructor", "DefaultOptimizerConstructor"):
        if constructor.removeprefix("mmdet.") not in _CONSTRUCTORS:
            raise ConfigError(
                f"{path}.constructor: {constructor!r} has no counterpart; allowed: {', '.join(_CONSTRUCTORS)}, or "
                "leave it out"
            )
        optimizer["constructor"] = constructor.removeprefix("mmdet.")
    if paramwise:
        optimizer["paramwise_cfg"] = paramwise
    callbacks = _clip(reader.take("clip_grad", dict, None), f"{path}.clip_grad")
    processor: dict[str, Any] = {}
    count = reader.take("accumulative_counts", int, 1)
    if count != 1:
        processor["grad_accumulation_step"] = count
    if kind == "AmpOptimWrapper":
        processor |= _mixed(reader, notes, path)
    reader.finish()
    return Optimizing(optimizer, callbacks, processor)


def _optimizer(reader: Reader) -> dict[str, Any]:
    kind = reader.one_of("type", _OPTIMIZERS)
    result = {"type": f"torch.optim.{kind}", "lr": reader.take("lr", (int, float))}
    names = ("momentum", "weight_decay", "betas", "nesterov", "eps", "dampening", "amsgrad", "alpha", "centered", "rho",
             "lr_decay", "momentum_decay", "foreach", "fused", "maximize", "capturable")  # fmt: skip
    for key in names:
        value = reader.take(key, object, None)
        if value is not None:
            result[key] = value
    reader.finish()
    return result


def _clip(config: dict[str, Any] | None, path: str) -> tuple[dict[str, Any], ...]:
    if config is None:
        return ()
    reader = Reader(dict(config), path)
    kind = reader.one_of("type", ("norm", "value"), "norm")
    reader.take("error_if_nonfinite", bool, False)
    reader.take("foreach", bool, None)
    if kind == "value":
        result = {"type": "GradClipValue", "clip_value": reader.take("clip_value", (int, float))}
    else:
        result = {"type": "GradClip", "max_norm": reader.take("max_norm", (int, float))}
        result["norm_type"] = reader.take("norm_type", (int, float), 2)
    reader.finish()
    return (result,)


def _mixed(reader: Reader, notes: Notes, path: str) -> dict[str, Any]:
    """Mixed precision: on a GPU float16 with a moving scale of the loss, on a CPU bfloat16, unless dtype says."""
    scale = reader.take("loss_scale", object, "dynamic")
    if scale != "dynamic":
        notes.say(f"{path}.loss_scale={scale!r}: the scale of the loss moves here (dynamic), from 65536")
    reader.take("use_fsdp", bool, False)
    dtype = reader.take("dtype", str, None)
    result: dict[str, Any] = {"enable_amp": True}
    if dtype is not None:
        if dtype not in _DTYPES:
            raise ConfigError(f"{path}.dtype: {dtype!r} has no counterpart; allowed: {', '.join(_DTYPES)}")
        result["enable_amp_dtype"] = _DTYPES[dtype]
    return result
