"""Optimizer, clipping and schedule of a config in MMDetection's vocabulary as hatdet's optimizer and callbacks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hatdet.config.mmdetection.reader import Reader


def translate_optimizer(config: Mapping[str, Any]) -> dict[str, Any]:
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


def translate_clip(config: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """``optimizer_config`` as a GradClip; None: it does not ask for one."""
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


def translate_schedule(config: Mapping[str, Any] | None) -> dict[str, Any]:
    """``lr_config`` as the callback that sets the learning rate."""
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
