"""Learning rate and momentum over time."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from hatdet.config.mmdetection.training.metrics import metric_name
from hatdet.utils.errors import ConfigError

PLATEAU = "ReduceOnPlateau"
"""Schedulers with this in their name look at what was measured."""
_SCOPES = ("mmdet.", "mmengine.")


def translate_schedulers(schedulers: Any) -> list[dict[str, Any]]:
    """``param_scheduler``: one or several, as one callback; none: the rate stays.

    Raises:
        ConfigError: an entry without a type.
    """
    if not schedulers:
        return []
    entries = [schedulers] if isinstance(schedulers, Mapping) else schedulers
    if not isinstance(entries, (list, tuple)) or not all(isinstance(entry, Mapping) for entry in entries):
        raise ConfigError(f"param_scheduler: expected dicts with a type, got {schedulers!r}; write [dict(type=...)]")
    found = []
    for index, entry in enumerate(entries):
        kind = entry.get("type")
        if not isinstance(kind, str):
            raise ConfigError(f"param_scheduler.{index}.type: expected a name, got {kind!r}; write type='LinearLR'")
        kind = next((kind.removeprefix(scope) for scope in _SCOPES if kind.startswith(scope)), kind)
        scheduler = {**copy.deepcopy(dict(entry)), "type": kind}
        if isinstance(scheduler.get("monitor"), str):
            scheduler["monitor"] = metric_name(scheduler["monitor"], f"param_scheduler.{index}.monitor")
        found.append(scheduler)
    return [{"type": "ParamSchedulers", "schedulers": found}]


def translate_policy(lr_config: Mapping[str, Any] | None, momentum: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """``lr_config`` and ``momentum_config`` of version 2, as one callback; none: the rate stays."""
    if not lr_config and not momentum:
        return []
    result: dict[str, Any] = {"type": "LrPolicy", "lr_config": copy.deepcopy(dict(lr_config or {"policy": "fixed"}))}
    if momentum:
        result["momentum_config"] = copy.deepcopy(dict(momentum))
    return [result]
