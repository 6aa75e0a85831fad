"""Schedules of learning rate, momentum and other settings of the optimizer, as MMEngine's configs list them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from hatdet.engine.callbacks.base import Callback
from hatdet.engine.callbacks.schedules.param_schedulers.names import Described
from hatdet.engine.callbacks.schedules.param_schedulers.plateau import ReduceOnPlateau
from hatdet.engine.callbacks.schedules.param_schedulers.ramps import is_warmup
from hatdet.engine.callbacks.schedules.param_schedulers.scheduler import FOREVER
from hatdet.engine.callbacks.schedules.param_schedulers.track import Track
from hatdet.engine.callbacks.schedules.schedule import (
    check_one_sets_rate,
    initial_setting,
    optimizer_groups,
    say_long_warmup,
    write_setting,
)
from hatdet.registry import register
from hatdet.utils.annotations import AsWritten
from hatdet.utils.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from hatdet.engine.loop import Loop


@register
class ParamSchedulers(Callback):
    """Runs a list of MMEngine's schedules; each changes the present value, so that several act on one another.

    An iteration is a batch, an epoch a pass over the loader. A schedule without ``end`` ends with the training. With
    ReduceOnPlateau it stands after `Validation`.

    Args:
        schedulers: ``dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=500)``: ``type`` is one of
            Constant, Linear, QuadraticWarmup, Poly, Step, MultiStep, Exponential, CosineAnnealing, CosineRestart,
            OneCycle and ReduceOnPlateau, with ``LR``, ``Momentum`` or ``ParamScheduler`` (and ``param_name``) behind
            it; arguments as MMEngine's, with ``begin``, ``end``, ``by_epoch``, ``convert_to_iter_based``.
    """

    def __init__(self, *, schedulers: Annotated[list[dict[str, Any]], AsWritten]) -> None:
        self.described = [Described.of(cfg, _path(index)) for index, cfg in enumerate(schedulers)]
        self.sets_learning_rate = any(each.parameter == "lr" for each in self.described)
        self.validations: dict[int, dict[str, float]] = {}
        self._seen = -1
        self._tracks: list[tuple[str, list[Track]]] = []

    def on_loop_begin(self, loop: Loop) -> None:
        if self.sets_learning_rate:
            check_one_sets_rate(loop)
        length, groups = loop.steps_per_epoch, optimizer_groups(loop, type(self).__name__)
        made = [
            (each.parameter, each.scheduler(loop.num_epochs, loop.total_steps, length, _path(index)))
            for index, each in enumerate(self.described)
        ]
        self.monitors = [scheduler.monitor for _, scheduler in made if isinstance(scheduler, ReduceOnPlateau)]
        for parameter, scheduler in made:
            if parameter == "lr" and scheduler.begin == 0 and scheduler.end < FOREVER and is_warmup(scheduler):
                say_long_warmup(loop, scheduler.end * (length if scheduler.by_epoch else 1))
        self._tracks = []
        for parameter in dict.fromkeys(name for name, _ in made):
            shared: dict[Any, Track] = {}
            tracks = []
            for index, group in enumerate(groups):
                own = tuple(s.of_group(index) for name, s in made if name == parameter)
                initial = initial_setting(group, parameter)
                track = shared.setdefault((initial, own), Track(initial, own, length, self.validations))
                tracks.append(track)
            self._tracks.append((parameter, tracks))

    def on_step_begin(self, loop: Loop) -> None:
        self._look(loop)
        assert loop.optimizer is not None
        for parameter, tracks in self._tracks:
            for group, track in zip(loop.optimizer.param_groups, tracks):
                write_setting(group, parameter, track.at(loop.progress.step))

    def on_step_end(self, loop: Loop) -> None:
        self._look(loop)

    def on_epoch_end(self, loop: Loop) -> None:
        self._look(loop)

    def _look(self, loop: Loop) -> None:
        """Remember a validation that is new."""
        if not self.monitors or loop.validated_at in (-1, self._seen):
            return
        self._seen = loop.validated_at
        missing = next((name for name in self.monitors if name not in loop.values), None)
        if missing is not None:
            raise UserError(
                f"ReduceOnPlateau: monitor={missing!r} is not among what the validation gives: "
                f"{', '.join(loop.values)}{did_you_mean(missing, loop.values)}; correct monitor"
            )
        measured = {name: float(loop.values[name]) for name in self.monitors}
        self.validations[loop.validated_at] = {k: v for k, v in measured.items() if not math.isnan(v)}

    def on_steps_renumbered(self, loop: Loop) -> None:
        self._seen = loop.validated_at  # steps of another length: what was measured then is not known to this count
        self.validations.clear()

    def state_dict(self) -> dict[str, Any]:
        return {"validations": {step: dict(values) for step, values in self.validations.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.validations.update({int(step): dict(values) for step, values in state["validations"].items()})
        self._seen = max(self.validations, default=-1)


def _path(index: int) -> str:
    return f"schedulers[{index}]"
