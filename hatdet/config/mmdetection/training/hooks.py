"""Hooks of both versions as hatdet's callbacks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hatdet.config.mmdetection.reader import Reader
from hatdet.config.mmdetection.training.length import Length
from hatdet.config.mmdetection.training.metrics import metric_name
from hatdet.config.mmdetection.training.notes import Notes
from hatdet.registry import registered_names, shipped_names
from hatdet.utils.errors import ConfigError, did_you_mean

_DEFAULTS = {
    "runtime_info": "RuntimeInfoHook", "timer": "IterTimerHook", "sampler_seed": "DistSamplerSeedHook",
    "logger": "LoggerHook", "param_scheduler": "ParamSchedulerHook", "checkpoint": "CheckpointHook",
    "visualization": "DetVisualizationHook",
}  # fmt: skip
"""The hooks that default_hooks has under these names where no type is given."""
_DONE = ("RuntimeInfoHook", "IterTimerHook", "DistSamplerSeedHook", "ParamSchedulerHook", "NumClassCheckHook")
"""What every training here does of itself."""
_IDLE = (
    "DetVisualizationHook", "NaiveVisualizationHook", "MemoryProfilerHook", "EmptyCacheHook", "ProfilerHook",
    "NPUProfilerHook", "TrackVisualizationHook", "GroundingVisualizationHook", "TextLoggerHook", "WandbLoggerHook",
    "MlflowLoggerHook", "NeptuneLoggerHook", "ClearMLLoggerHook", "DvcliveLoggerHook", "SegmindLoggerHook",
    "MMDetWandbHook", "TensorboardLoggerHook", "LoadBestCheckpointHook",
)  # fmt: skip
_REFUSED = {
    "MeanTeacherHook": "semi-supervised training is not supported",
    "RFSearchHook": "it changes the network's dilations while training; write the result of the search into the model",
    "PrepareTTAHook": "test-time augmentation is asked for by predict.py --tta",
}
_SAME = ("EarlyStoppingHook", "ExpMomentumEMAHook", "LinearMomentumEMAHook")
"""Callbacks of the same name and arguments."""
_SYNC = ("SyncNormHook", "SyncBuffersHook")

@dataclass
class Hooks:
    """What the hooks of a config ask for.

    Attributes:
        log_interval: steps between two lines of the log.
        checkpoint: arguments of the Checkpoint callback.
        late: callbacks that switch the pipeline; when, they say.
        before_validation, after_validation: other callbacks, in their order.
    """

    log_interval: int = 50
    checkpoint: dict[str, Any] = field(default_factory=dict)
    late: list[dict[str, Any]] = field(default_factory=list)
    before_validation: list[dict[str, Any]] = field(default_factory=list)
    after_validation: list[dict[str, Any]] = field(default_factory=list)


def translate_hooks(values: Mapping[str, Any], version: int, length: Length, notes: Notes) -> Hooks:
    """``default_hooks`` and ``custom_hooks``; of version 2 ``checkpoint_config`` and ``log_config`` too.

    Raises:
        ConfigError: a hook that would change the result and is not there, with its path.
    """
    hooks = Hooks()
    if version == 2:
        _checkpoint(Reader(dict(values.get("checkpoint_config") or {}), "checkpoint_config"), hooks, length, notes)
        log = Reader(dict(values.get("log_config") or {}), "log_config")
        hooks.log_interval = log.take("interval", int, 50)
        for index, hook in enumerate(log.take("hooks", list, [])):
            _hook(dict(hook), f"log_config.hooks.{index}", hooks, version, length, notes)
        log.finish()
    for name, hook in (values.get("default_hooks") or {}).items():
        if hook is not None:
            kind = {"type": _DEFAULTS[name]} if name in _DEFAULTS else {}
            _hook({**kind, **hook}, f"default_hooks.{name}", hooks, version, length, notes)
    for index, hook in enumerate(values.get("custom_hooks") or ()):
        _hook(dict(hook), f"custom_hooks.{index}", hooks, version, length, notes)
    return hooks


def _hook(hook: dict[str, Any], path: str, hooks: Hooks, version: int, length: Length, notes: Notes) -> None:
    reader = Reader(hook, path)
    kind = str(reader.take("type", str)).removeprefix("mmdet.").removeprefix("mmengine.")
    reader.take("priority", object, None)  # callbacks have a fixed order here
    if kind in _DONE:
        reader.ignore_all()
    elif kind in _IDLE:
        reader.ignore_all()
        notes.without_effect(kind)
    elif kind in _REFUSED:
        raise ConfigError(f"{path}.type: {kind} is not supported: {_REFUSED[kind]}; take it out")
    elif kind == "LoggerHook":
        hooks.log_interval = reader.take("interval", int, 50)
        reader.ignore_all()
    elif kind == "CheckpointHook":
        _checkpoint(reader, hooks, length, notes)
    elif kind in ("PipelineSwitchHook", "YOLOXModeSwitchHook"):
        hooks.late.append(_switch(kind, reader, length))
    elif kind == "EMAHook":
        hooks.before_validation.append(_ema(reader, version))
    elif kind == "CheckInvalidLossHook":
        reader.take("interval", int, 50)
        reader.finish()  # NanGuard does it at every step
    elif kind == "SetEpochInfoHook":
        reader.finish()
        hooks.before_validation.append({"type": "SetEpochInfo"})
    elif kind in _SYNC:
        reader.ignore_all()
        hooks.before_validation.append({"type": "SyncNorm"})
    elif kind in _SAME:
        reader.take("resume_from", str, None)
        callback = {"type": kind, **reader.values}
        if isinstance(callback.get("monitor"), str):
            callback["monitor"] = metric_name(callback["monitor"], f"{path}.monitor")
        (hooks.after_validation if kind == "EarlyStoppingHook" else hooks.before_validation).append(callback)
    elif kind in registered_names() and kind not in shipped_names():  # the user's own callback
        hooks.before_validation.append({"type": kind, **reader.values})
    else:
        known = [*_DONE, *_IDLE, *_SAME, *_SYNC, "LoggerHook", "CheckpointHook", "PipelineSwitchHook", "EMAHook",
                 "YOLOXModeSwitchHook", "SetEpochInfoHook", "CheckInvalidLossHook"]  # fmt: skip
        raise ConfigError(
            f"{path}.type: {kind!r} has no counterpart{did_you_mean(kind, known)}; take it out, or register a callback "
            "of that name (hatdet.registry.register) in a module that custom_imports names"
        )


def _switch(kind: str, reader: Reader, length: Length) -> dict[str, Any]:
    """The data half makes the late transforms; here is when they begin."""
    if length.epochs is None:
        raise ConfigError(f"{reader.path}.type: {kind} counts epochs; use it with max_epochs")
    if kind == "PipelineSwitchHook":
        first = reader.take("switch_epoch", int)
        reader.take("switch_pipeline", list)
        reader.finish()
        return {"type": "PipelineSwitch", "num_last_epochs": max(0, length.epochs - first)}
    last = reader.take("num_last_epochs", int, 15)
    reader.take("skip_type_keys", (list, tuple), None)
    reader.finish()
    return {"type": "YOLOXModeSwitch", "num_last_epochs": last}


def _ema(reader: Reader, version: int) -> dict[str, Any]:
    if version == 2:  # mmcv's
        result = {"type": "LinearMomentumEMAHook", "momentum": reader.take("momentum", (int, float), 0.0002)}
        result |= {"interval": reader.take("interval", int, 1), "warm_up": reader.take("warm_up", int, 100)}
        reader.take("resume_from", str, None)
        reader.finish()
        return {**result, "skip_buffers": False}
    reader.values.pop("type", None)
    return {"type": "EMAHook", **reader.values}


def _checkpoint(reader: Reader, hooks: Hooks, length: Length, notes: Notes) -> None:
    """``CheckpointHook``: numbered files, and which is the best; all files are complete ones here."""
    by_epoch = reader.take("by_epoch", bool, True)
    interval = reader.take("interval", int, 1 if by_epoch else -1)
    result: dict[str, Any] = {}
    if interval < 1:
        result["keep"] = 0
    elif by_epoch and length.by_epoch:
        result["save_interval"] = interval
    else:
        result["save_last_every_steps"] = interval
    keep = reader.take("max_keep_ckpts", int, -1)
    if "keep" not in result:
        result["keep"] = None if keep < 0 else keep
    best = reader.take("save_best", (str, list), None)
    if best is not None:
        result |= monitored(best, f"{reader.path}.save_best")
    rule = reader.take("rule", (str, list), None)
    if rule is not None:
        result["mode"] = {"greater": "max", "less": "min"}.get(rule if isinstance(rule, str) else rule[0], "max")
    if reader.take("out_dir", str, None) is not None:
        notes.say(f"{reader.path}.out_dir: checkpoints go to the work dir; say work_dir")
    idle = ("save_last", "save_optimizer", "save_param_scheduler", "published_keys", "greater_keys", "less_keys",
            "file_client_args", "backend_args", "filename_tmpl", "save_begin", "sync_buffer", "create_symlink", "meta",
            "sync_buffers")  # fmt: skip
    for key in idle:
        reader.take(key, object, None)
    reader.finish()
    hooks.checkpoint = {**hooks.checkpoint, **result}


def monitored(best: str | Iterable[str], path: str) -> dict[str, Any]:
    """``save_best`` as which of our values decides."""
    return {"monitor_metric_key": metric_name(best if isinstance(best, str) else next(iter(best), "auto"), path)}
