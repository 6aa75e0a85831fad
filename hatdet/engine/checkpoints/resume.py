"""Continuing a training whose batch size, data, length or optimizer settings are no longer those of the checkpoint.

A checkpoint's steps are steps of its own batch size. What counts is how many epochs are finished and how many images of
the present one: the steps of the new run follow from that.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from hatdet.engine.progress import Progress
from hatdet.utils import distributed
from hatdet.utils.errors import UserError
from hatdet.utils.finite import refuse_not_finite

logger = logging.getLogger("hatdet")

_NEEDED = ("state_dict", "progress", "rng", "callbacks", "metrics", "batch_processor")
_KINDS = ("betas", "alpha", "rho", "lr_decay", "momentum")
"""Settings that tell the kind of an optimizer, where a checkpoint of an earlier version does not name it."""
_ALIKE = ("Adam", "AdamW")
"""They keep the same moments."""
HOW_IT_RUNS = ("fused", "foreach", "capturable", "differentiable", "maximize")
"""Entries of a parameter group that belong to the state (where its tensors lie), not to the config's settings."""


@dataclasses.dataclass(frozen=True)
class Pace:
    """What a step and an epoch are in a run; None: not known (an earlier version wrote the checkpoint)."""

    steps_per_epoch: int | None
    batch_size: int | None
    """images a step, of one process"""
    processes: int | None
    images: int | None
    """of the data set"""
    accumulation: int | None = None
    """steps an update"""

    @classmethod
    def of(cls, data_loader: Any, steps_per_epoch: int, accumulation: int = 1) -> Pace:
        """That of a loader."""
        try:
            images = len(data_loader.dataset)
        except (AttributeError, TypeError):  # an iterable data set has no length
            images = None
        size = getattr(data_loader, "batch_size", None) or 1
        return cls(steps_per_epoch, int(size), distributed.get_world_size(), images, accumulation)

    @classmethod
    def saved(cls, state: Mapping[str, Any]) -> Pace:
        """That of a checkpoint; from its counts where it does not say."""
        known = state.get("pace")
        if known is not None:
            return cls(**{field.name: known.get(field.name) for field in dataclasses.fields(cls)})
        done = state["progress"]
        epochs, before = done["epoch"], done["step"] - done["step_in_epoch"]
        whole = before // epochs if epochs and before % epochs == 0 else None
        return cls(whole, -(-done["samples"] // done["step"]) if done["step"] else None, None, None)

    def state_dict(self) -> dict[str, int]:
        """What :meth:`saved` reads."""
        return {key: value for key, value in dataclasses.asdict(self).items() if value is not None}


def position(saved: Progress, old: Pace, new: Pace) -> Progress:
    """Where ``saved`` is in a run with the pace ``new``; a position inside an epoch is rounded down to an update.

    Where the data set has another length its order is another one, too: an epoch that was under way begins anew.
    """
    assert new.steps_per_epoch is not None and new.batch_size is not None and new.processes is not None
    result = dataclasses.replace(saved)
    if not changes(old, new):
        return result
    if "images" in changes(old, new):
        result.step_in_epoch = 0
    elif saved.step_in_epoch:
        images = saved.step_in_epoch * (old.batch_size or new.batch_size) * (old.processes or new.processes)
        steps = images // (new.batch_size * new.processes)
        if steps >= new.steps_per_epoch:
            result.epoch, steps = result.epoch + 1, 0
        result.step_in_epoch = steps - steps % (new.accumulation or 1)
    result.step = result.epoch * new.steps_per_epoch + result.step_in_epoch
    return result


def changes(old: Pace, new: Pace) -> list[str]:
    """What is known of both and differs."""
    both = ((field.name, getattr(old, field.name), getattr(new, field.name)) for field in dataclasses.fields(Pace))
    return [name for name, before, now in both if before is not None and now is not None and before != now]


def describe(saved: Progress, now: Progress, old: Pace, new: Pace) -> str:
    """What changed and what follows, in one line; empty where nothing did."""
    different = changes(old, new)
    if not different or (now == saved and old.images is None):  # what was only reckoned must not be shown as a change
        return ""
    text = ", ".join(
        f"{name.replace('_per_', ' an ')} {getattr(old, name)} -> {getattr(new, name)}" for name in different
    )
    if not saved.step_in_epoch:
        return text
    if "images" in different:
        return f"{text}: epoch {now.epoch + 1} was under way and begins anew, its order of images is another one"
    before = saved.step_in_epoch * (old.batch_size or 1) * (old.processes or 1)
    after = now.step_in_epoch * (new.batch_size or 1) * (new.processes or 1)
    twice = f", {before - after} of them once more" if 0 < after < before else ""
    return f"{text}: epoch {now.epoch + 1} goes on after image {after} of the {before} it has seen{twice}"


# ------------------------------------------------------------------------------------------------- the optimizer
def parameter_names(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[str]:
    """Names of the optimizer's parameters, in the order of its groups."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}  # frozen ones too
    return [names.get(id(p), "") for group in optimizer.param_groups for p in group["params"]]


def check_resumable(state: Mapping[str, Any], source: str, *, optimized: bool = True) -> None:
    """Whether a training can go on from a checkpoint.

    Args:
        optimized: it has an optimizer.

    Raises:
        UserError: it is no training's, or its averaged weights or the optimizer's moments are not finite: with an
            infinite moment a weight never moves again, with NaN the next step spoils it.
    """
    absent = [key for key in (*_NEEDED, *(("optimizer", "scheduler") if optimized else ())) if key not in state]
    if absent:
        what = "weights only" if "progress" not in state else "no training's state"
        raise UserError(f"{source} has {what} (no {absent[0]!r}); name a checkpoint that a training wrote")
    advice = "put an earlier checkpoint in its place, or train anew (--overwrite)"
    refuse_not_finite(state["state_dict"], f"the weights in {source}", advice)
    saved, names = state.get("optimizer") or {}, state.get("optimizer_names")
    places = [number for group in saved.get("param_groups", ()) for number in group["params"]]
    known = dict(zip(places, names, strict=False)) if names else {}
    moments = {
        f"{known.get(number, number)}.{kind}": value
        for number, values in saved.get("state", {}).items()
        for kind, value in values.items()
    }
    refuse_not_finite(moments, f"the optimizer's moments in {source}", advice)


def restore_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any], model: nn.Module) -> list[str]:
    """Take over an optimizer's moments; learning rate, weight decay and the like stay those of the config.

    Args:
        state: the checkpoint; one of an earlier version does not name the optimizer's parameters, or its class.

    Returns:
        what differs between the saved settings and the config's, as ``name old -> new``.

    Raises:
        UserError: the moments are those of other parameters or of another kind of optimizer.
    """
    saved, names, kind = state["optimizer"], state.get("optimizer_names"), state.get("optimizer_type")
    wanted = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    own = parameter_names(model, optimizer)
    groups = [dict(group) for group in saved["param_groups"]]
    _check_kind(optimizer, groups, kind)
    before = _settings(groups, list(names) if names is not None else None)
    sizes = [len(group["params"]) for group in groups]
    if sizes != [len(group["params"]) for group in optimizer.param_groups] or (names and list(names) != own):
        saved = _regrouped(saved, names, own, optimizer)
    optimizer.load_state_dict(dict(saved))
    for group, settings in zip(optimizer.param_groups, wanted, strict=True):
        group.update({key: value for key, value in settings.items() if key not in HOW_IT_RUNS})
    own_kind = type(optimizer).__name__
    other = [f"optimizer {kind} -> {own_kind}"] if kind not in (None, own_kind) else []
    return other + _differences(before, _settings(optimizer.param_groups, own if names is not None else None))


def _check_kind(optimizer: torch.optim.Optimizer, groups: Sequence[Mapping[str, Any]], kind: str | None) -> None:
    """Refuse the state of an optimizer that keeps other moments."""
    own, settings, saved = type(optimizer).__name__, optimizer.param_groups[0], groups[0] if groups else {}
    alike = kind == own or {kind, own} <= set(_ALIKE)
    if kind is None:
        kind = next((f"one with {key}" for key in _KINDS if key in saved), "another")
        alike = all((key in saved) == (key in settings) for key in _KINDS)
    if not alike:
        raise UserError(
            f"its optimizer is {kind}, the config's is {own}: set the optimizer back, or train anew without --resume"
        )


def restore_rates(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """The checkpoint's learning rates, where no step will set them before the epoch is saved."""
    for group, lr in zip(optimizer.param_groups, state["scheduler"]["lr"], strict=False):
        group["lr"] = lr


def _regrouped(
    saved: Mapping[str, Any], names: Sequence[str] | None, own: list[str], optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    """The saved state in the optimizer's present groups, parameter by parameter."""
    if names is None or sorted(names) != sorted(own):
        count = sum(len(group["params"]) for group in saved["param_groups"])
        raise UserError(
            f"its optimizer has {count} parameters in {len(saved['param_groups'])} groups, the config's has {len(own)} "
            f"in {len(optimizer.param_groups)}: resume with the params, paramwise, weight_decay and frozen modules it "
            "was trained with"
        )
    numbers = [number for group in saved["param_groups"] for number in group["params"]]
    by_name = dict(zip(names, numbers, strict=True))
    target = optimizer.state_dict()
    targets = [number for group in target["param_groups"] for number in group["params"]]
    state = {
        number: saved["state"][by_name[name]]
        for number, name in zip(targets, own, strict=True)
        if by_name[name] in saved["state"]
    }
    kept = {key: saved["param_groups"][0][key] for key in HOW_IT_RUNS if key in saved["param_groups"][0]}
    return {"state": state, "param_groups": [{**group, **kept} for group in target["param_groups"]]}


def _settings(groups: Sequence[Mapping[str, Any]], names: list[str] | None) -> dict[str, list[Any]]:
    """Values by setting: of each parameter by name, or of each group where names are not known."""
    rows: list[tuple[str, Mapping[str, Any]]] = []
    position = 0
    for number, group in enumerate(groups):
        count = len(group["params"])
        keys = [f"{number}"] if names is None else names[position : position + count]
        rows += [(key, group) for key in keys]
        position += count
    rows.sort(key=lambda row: row[0])
    shown = dict(lr="initial_lr", weight_decay="weight_decay", betas="betas", momentum="momentum", eps="eps")
    return {
        title: [tuple(v) if isinstance(v := group[key], list) else v for _, group in rows]
        for title, key in shown.items()
        if all(key in group for _, group in rows)
    }


def _differences(before: Mapping[str, list[Any]], now: Mapping[str, list[Any]]) -> list[str]:
    found = []
    for name in before.keys() & now.keys():
        pairs = zip(before[name], now[name], strict=False)
        changed = sorted({f"{name} {_number(a)} -> {_number(b)}" for a, b in pairs if a != b})
        found += changed
    return sorted(found)


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
