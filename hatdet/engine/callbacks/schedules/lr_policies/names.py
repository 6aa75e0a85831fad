"""Policies by their names in configs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from hatdet.engine.callbacks.schedules.lr_policies import policies as p
from hatdet.engine.callbacks.schedules.lr_policies.cycles import Cyclic, OneCycle, OneCycleMomentum
from hatdet.engine.callbacks.schedules.lr_policies.policy import Policy
from hatdet.engine.callbacks.schedules.param_schedulers.names import check_complete
from hatdet.utils.errors import UserError, did_you_mean

RATES: dict[str, type[Policy]] = {
    "fixed": p.Fixed,
    "step": p.Step,
    "exp": p.Exp,
    "poly": p.Poly,
    "inv": p.Inv,
    "CosineAnnealing": p.CosineAnnealing,
    "FlatCosineAnnealing": p.FlatCosineAnnealing,
    "CosineRestart": p.CosineRestart,
    "LinearAnnealing": p.LinearAnnealing,
    "cyclic": Cyclic,
    "OneCycle": OneCycle,
    "YOLOX": p.YOLOX,
}
MOMENTA: dict[str, type[Policy]] = {
    "step": p.Step,
    "CosineAnnealing": p.CosineAnnealing,
    "LinearAnnealing": p.LinearAnnealing,
    "cyclic": Cyclic,
    "OneCycle": OneCycleMomentum,
}
_OF_MOMENTA = {"min_momentum": "min_lr", "min_momentum_ratio": "min_lr_ratio"}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "step": {"gamma": 0.5},
    "cyclic": {"target_ratio": (0.85 / 0.95, 1)},
}


def rate_policy(cfg: Mapping[str, Any]) -> Policy:
    """The policy of ``lr_config``.

    Raises:
        UserError: unknown names, or values that cannot be.
    """
    return _made(dict(cfg), RATES, {}, "lr_config")


def momentum_policy(cfg: Mapping[str, Any]) -> Policy:
    """The policy of ``momentum_config``.

    Raises:
        UserError: unknown names, or values that cannot be.
    """
    kind = _policy(cfg)
    return _made({**_DEFAULTS.get(kind, {}), **cfg}, MOMENTA, _OF_MOMENTA, "momentum_config")


def _policy(cfg: Mapping[str, Any]) -> str:
    """The policy's name; of a hook's own name (``StepLrUpdaterHook``) what stands before its ending."""
    name = str(cfg.get("policy", cfg.get("type", ""))).rpartition(".")[2]
    for ending in ("LrUpdaterHook", "MomentumUpdaterHook"):
        name = name.removesuffix(ending)
    found = {each.lower(): each for each in (*RATES, *MOMENTA)}
    return found.get(name.lower(), name)


def _made(cfg: dict[str, Any], kinds: Mapping[str, type[Policy]], renamed: Mapping[str, str], path: str) -> Policy:
    name = _policy(cfg)
    if name not in kinds:
        raise UserError(f"{path}: unknown policy {name!r}{did_you_mean(name, kinds)}; one of {', '.join(kinds)}")
    kind = kinds[name]
    back = {own: theirs for theirs, own in renamed.items()}
    fields = [back.get(field.name, field.name) for field in dataclasses.fields(kind)]
    arguments = {key: value for key, value in cfg.items() if key not in ("policy", "type")}
    unknown = next((key for key in arguments if key not in fields), None)
    if unknown is not None:
        near = did_you_mean(unknown, fields)
        raise UserError(f"{path} ({name}): unknown argument {unknown!r}{near}; it has {', '.join(fields)}")
    check_complete(kind, arguments, f"{path} ({name})")
    try:
        return kind(**{renamed.get(key, key): value for key, value in arguments.items()})
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} ({name}): {error}; correct it in the config") from error
