"""Schedules by their names in configs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from hatdet.engine.callbacks.schedules.param_schedulers.decays import Exponential, MultiStep, Step
from hatdet.engine.callbacks.schedules.param_schedulers.plateau import ReduceOnPlateau
from hatdet.engine.callbacks.schedules.param_schedulers.ramps import Constant, Linear, Poly, QuadraticWarmup
from hatdet.engine.callbacks.schedules.param_schedulers.scheduler import Scheduler
from hatdet.engine.callbacks.schedules.param_schedulers.waves import CosineAnnealing, CosineRestart, OneCycle
from hatdet.utils.errors import UserError, did_you_mean

KINDS: dict[str, type[Scheduler]] = {
    kind.__name__: kind
    for kind in (
        Constant, Linear, QuadraticWarmup, Poly, Step, MultiStep, Exponential, CosineAnnealing, CosineRestart, OneCycle,
        ReduceOnPlateau,
    )
}  # fmt: skip
ENDINGS = {"LR": "lr", "Momentum": "momentum", "ParamScheduler": ""}
"""``LinearLR``, ``LinearMomentum``, ``LinearParamScheduler(param_name=...)``."""
NAMES = tuple(kind + ending for kind in KINDS for ending in ENDINGS if (kind, ending) != ("OneCycle", "Momentum"))


@dataclasses.dataclass(frozen=True)
class Described:
    """A schedule as a config has it, checked.

    Attributes:
        name: in the config.
        parameter: of the optimizer's groups: "lr", "momentum" or another.
        kind: its class.
        arguments: of the class.
        converted: epochs are to become iterations.
    """

    name: str
    parameter: str
    kind: type[Scheduler]
    arguments: Mapping[str, Any]
    converted: bool

    @classmethod
    def of(cls, cfg: Mapping[str, Any], path: str) -> Described:
        """Read ``dict(type="LinearLR", ...)``.

        Raises:
            UserError: unknown names, or values that cannot be.
        """
        arguments = dict(cfg)
        name = str(arguments.pop("type", "")).rpartition(".")[2]
        if name not in NAMES:
            raise UserError(
                f"{path}: unknown type {name!r}{did_you_mean(name, NAMES)}; name one of MMEngine's schedules"
            )
        ending = next(ending for ending in ENDINGS if name.endswith(ending))
        kind = KINDS[name.removesuffix(ending)]
        parameter = ENDINGS[ending] or str(arguments.pop("param_name", "lr"))
        converted = bool(arguments.pop("convert_to_iter_based", False))
        arguments.pop("epoch_length", None)  # the loader's
        fields = [field.name for field in dataclasses.fields(kind)]
        unknown = next((key for key in arguments if key not in fields), None)
        if unknown is not None:
            near = did_you_mean(unknown, fields)
            raise UserError(f"{path} ({name}): unknown argument {unknown!r}{near}; it has {', '.join(fields)}")
        if kind is OneCycle and parameter != "lr":
            raise UserError(f"{path} ({name}): one cycle is one of the learning rate; leave param_name out")
        if converted and not arguments.get("by_epoch", True):
            raise UserError(
                f"{path} ({name}): convert_to_iter_based converts epochs; set by_epoch=True or leave it out"
            )
        described = cls(name, parameter, kind, arguments, converted)
        described._made(arguments, path)
        return described

    def scheduler(self, epochs: int, iterations: int, epoch_length: int, path: str) -> Scheduler:
        """The schedule for a training of that length, which is its end where it has none."""
        by_epoch = self.arguments.get("by_epoch", True)
        arguments = {"end": epochs if by_epoch else iterations, **self.arguments}
        if self.converted:
            arguments = self.kind.by_iteration(arguments, epoch_length)
        return self._made(arguments, path)

    def _made(self, arguments: Mapping[str, Any], path: str) -> Scheduler:
        check_complete(self.kind, arguments, f"{path} ({self.name})")
        try:
            return self.kind(**arguments)
        except (ValueError, TypeError) as error:
            raise UserError(f"{path} ({self.name}): {error}; correct it in the config") from error


def check_complete(kind: type, arguments: Mapping[str, Any], path: str) -> None:
    """Refuse arguments that leave out what has no default."""
    missing = [f.name for f in dataclasses.fields(kind) if f.default is dataclasses.MISSING and f.name not in arguments]
    if missing:
        raise UserError(f"{path}: {', '.join(missing)} is missing; add it")
