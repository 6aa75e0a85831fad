"""Parameter groups and the optimizer."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from hatdet.building import Factory
from hatdet.engine.paramwise import layer_decay_settings, paramwise_settings
from hatdet.engine.processes.eager import postpone_compiler
from hatdet.utils.errors import UserError, did_you_mean

logger = logging.getLogger("hatdet")

NORMS = (
    nn.modules.batchnorm._NormBase,
    nn.GroupNorm,
    nn.LayerNorm,
)
_FUSED = (torch.optim.AdamW, torch.optim.Adam, torch.optim.SGD)
PARAMWISE = ("norm_decay", "bias_decay", "backbone_lr", "stage_decay")
RESERVED = ("params", "paramwise", "paramwise_cfg", "constructor")
"""Keys of the config's optimizer that are ours; declared by ``Annotated[Factory, "params?", "paramwise?", ...]``."""


@dataclasses.dataclass(frozen=True)
class _Named:
    name: str
    parameter: nn.Parameter
    norm: bool
    """belongs to a normalization layer, or its module names it in ``norm_parameters``"""


def named_parameters(model: nn.Module) -> Iterator[_Named]:
    """Trainable parameters once each (a shared one under its first name)."""
    seen: set[int] = set()
    for prefix, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad and id(parameter) not in seen:
                seen.add(id(parameter))
                full = f"{prefix}.{name}" if prefix else name
                norm = isinstance(module, NORMS) or name in getattr(module, "norm_parameters", ())
                yield _Named(full, parameter, norm)


def check_paramwise(paramwise: Mapping[str, float] | None) -> None:
    """Refuse unknown keys and values that are no numbers."""
    for key, value in (paramwise or {}).items():
        if key not in PARAMWISE:
            raise UserError(f"optimizer.paramwise: unknown key {key!r}{did_you_mean(key, PARAMWISE)}")
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise UserError(f"optimizer.paramwise.{key}: expected a number, got {value!r}")


def parameter_groups(
    model: nn.Module,
    params: Mapping[str, Mapping[str, Any]] | None = None,
    paramwise: Mapping[str, float] | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Sort a model's trainable parameters into groups of the same settings.

    Args:
        params: settings by substring of the parameter's name; each parameter goes to the first that matches. The
            rest get the optimizer's own settings.
        paramwise: ``norm_decay``: weight decay of all parameters of normalization layers; ``bias_decay``: of all
            other biases. Both win over ``params``. ``backbone_lr``: multiplies the learning rate of ``backbone.``;
            ``stage_decay``: multiplies it once more for each stage of the backbone that follows the parameter's.
        defaults: the optimizer's arguments, used to tell apart what differs from them.

    Returns:
        groups ``dict(params=[...], **settings)``; never an empty one.

    Raises:
        UserError: a substring that no parameter has, an unknown key of ``paramwise``, a model without parameters, a
            ``stage_decay`` of a backbone that does not say its stages.
    """
    params, paramwise, defaults = params or {}, paramwise or {}, defaults or {}
    check_paramwise(paramwise)
    rates = _backbone_rates(found := list(named_parameters(model)), model, paramwise, defaults)
    used: set[str] = set()
    chosen: list[tuple[nn.Parameter, dict[str, Any]]] = []
    for named in found:
        match = next((text for text in params if text in named.name), None)
        used.update([] if match is None else [match])
        settings = dict(params[match]) if match is not None else {}
        if named.norm and "norm_decay" in paramwise:
            settings["weight_decay"] = paramwise["norm_decay"]
        elif not named.norm and named.name.endswith("bias") and "bias_decay" in paramwise:
            settings["weight_decay"] = paramwise["bias_decay"]
        if named.name in rates:
            settings["lr"] = {**defaults, **settings}["lr"] * rates[named.name]
        chosen.append((named.parameter, settings))
    groups = grouped(chosen, defaults)
    unused = [text for text in params if text not in used]
    if unused:
        names = [named.name for named in found]
        raise UserError(
            f"optimizer.params: no parameter was left for {', '.join(map(repr, unused))}; "
            f"parameters are named like {names[0]!r}, {names[len(names) // 2]!r}, {names[-1]!r}; "
            "correct or remove the pattern"
        )
    return groups


def _backbone_rates(
    found: Sequence[_Named], model: nn.Module, paramwise: Mapping[str, float], defaults: Mapping[str, Any]
) -> dict[str, float]:
    """What multiplies the learning rate, by name of the backbone's parameters; empty where nothing does.

    A backbone says its stages, nearest to the picture first, as names of modules: ``(("stem",), ("stage1", "spp"))``.
    """
    lr, decay = float(paramwise.get("backbone_lr", 1.0)), float(paramwise.get("stage_decay", 1.0))
    if lr == 1.0 and decay == 1.0:
        return {}
    backbone = getattr(model, "backbone", None)
    if not isinstance(backbone, nn.Module) or "lr" not in defaults:
        what = "the model has no backbone" if "lr" in defaults else "the optimizer's lr is not given"
        raise UserError(f"optimizer.paramwise: backbone_lr and stage_decay multiply, but {what}; leave them out")
    stages: Sequence[Sequence[str]] | None = getattr(backbone, "stages", None)
    if decay != 1.0 and not isinstance(stages, (tuple, list)):
        kind = type(backbone).__name__
        raise UserError(
            f"optimizer.paramwise.stage_decay={decay}: the backbone {kind} does not say its stages; leave it out, or "
            "give the backbone an attribute stages"
        )
    names = [named.name.removeprefix("backbone.") for named in found if named.name.startswith("backbone.")]
    last = len(stages or ()) - 1
    of_module = {part: i for i, stage in enumerate(stages or ()) for part in stage}
    depth = {name: next((i for part, i in of_module.items() if name.startswith(f"{part}.")), last) for name in names}
    return {f"backbone.{name}": lr * decay ** (last - i if decay != 1.0 else 0) for name, i in depth.items()}


def _groups(given: Mapping[str, Any], model: nn.Module, arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The groups that the keys of :data:`RESERVED` ask for."""
    cfg, constructor = given.get("paramwise_cfg"), given.get("constructor")
    if not cfg and constructor is None:
        return parameter_groups(model, given.get("params"), given.get("paramwise"), arguments)
    if given.get("params") or given.get("paramwise"):
        raise UserError("optimizer: paramwise_cfg does not go with params and paramwise; say it in one of them")
    settings = paramwise_settings if constructor is None else layer_decay_settings
    return grouped(settings(model, cfg or {}, arguments), arguments)


def grouped(
    found: Iterable[tuple[nn.Parameter, Mapping[str, Any]]], defaults: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Parameters with the same settings together: ``dict(params=[...], **settings)``; never an empty group.

    Raises:
        UserError: there is no parameter.
    """
    groups: dict[str, dict[str, Any]] = {}
    for parameter, settings in found:
        own = {key: value for key, value in settings.items() if key not in defaults or defaults[key] != value}
        groups.setdefault(repr(sorted(own.items())), {"params": [], **own})["params"].append(parameter)
    if not groups:
        raise UserError(
            "the model has no trainable parameters, so there is nothing for the optimizer to do; "
            "leave a module unfrozen, or skip this stage"
        )
    return list(groups.values())


def build_optimizer(factory: Factory, model: nn.Module, lr_scale: float = 1.0) -> torch.optim.Optimizer:
    """Build the optimizer that a config describes on the parameters of ``model``.

    Besides the optimizer's own arguments the config may have ``params`` and ``paramwise`` (:func:`parameter_groups`),
    or ``paramwise_cfg`` (:func:`~hatdet.engine.paramwise.paramwise_settings`; with ``constructor``
    :func:`~hatdet.engine.paramwise.layer_decay_settings`). Adam, AdamW and SGD run fused unless the config says
    otherwise: the update is elementwise, so the result is deterministic, and it takes one pass over the memory.

    Args:
        lr_scale: multiplies every learning rate (batch size scaling).
    """
    arguments = {key: value for key, value in factory.kwargs.items() if key not in RESERVED}
    groups = _groups(factory.kwargs, model, arguments)
    given: dict[str, Any] = {"params": groups}
    if factory.type in _FUSED and not {"fused", "foreach", "capturable", "differentiable"} & set(arguments):
        tensors = [parameter for group in groups for parameter in group["params"]]
        given["fused"] = all(t.device.type in ("cpu", "cuda") and t.is_floating_point() for t in tensors)
    postpone_compiler()
    try:
        optimizer: torch.optim.Optimizer = factory.type(**arguments, **given)
    except (ValueError, TypeError) as error:
        raise UserError(f"optimizer ({factory.type.__name__}): {error}") from error
    for group in optimizer.param_groups:
        group["lr"] = group["lr"] * lr_scale
        group["initial_lr"] = group["lr"]
    return optimizer


def learning_rate(optimizer: torch.optim.Optimizer) -> float:
    """The learning rate of the first group, which is what a log shows."""
    return float(optimizer.param_groups[0]["lr"])


def batch_size_scale(base: int | None, batch_size: int, processes: int, accumulation: int) -> float:
    """Factor of the learning rate for another total batch size than it was meant for (linear rule).

    Args:
        base: total batch size that the learning rate was chosen for; None: no scaling.
    """
    if base is None:
        return 1.0
    total = batch_size * processes * accumulation
    if total != base:
        logger.info("learning rate times %.4g: %d images a step, the rate is for %d", total / base, total, base)
    return total / base


def describe_groups(groups: Sequence[Mapping[str, Any]]) -> str:
    """``"231 tensors: 120 weight_decay=0.05, 111 weight_decay=0.0"`` for the log."""
    parts = [
        f"{len(group['params'])} lr={group['lr']:.3g} weight_decay={group.get('weight_decay', 0)}" for group in groups
    ]
    return f"{sum(len(group['params']) for group in groups)} parameter tensors: " + ", ".join(parts)
