"""Shared by the learning rate updaters: closed forms of the step number, nothing that drifts over a resume."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from hatdet.engine.callbacks.base import Callback
from hatdet.engine.optimizer import learning_rate
from hatdet.utils.errors import UserError

if TYPE_CHECKING:
    from hatdet.engine.loop import Loop

logger = logging.getLogger("hatdet")

UNITS = ("step", "epoch", "fraction")


def to_steps(length: float, unit: str, loop: Loop) -> int:
    """A length in ``unit`` (``step``, ``epoch``, or ``fraction`` of the whole training) as a number of steps."""
    if unit == "step":
        return round(length)
    return round(length * (loop.steps_per_epoch if unit == "epoch" else loop.total_steps))


def check_unit(name: str, unit: str) -> None:
    """Refuse another unit than those of :func:`to_steps`."""
    if unit not in UNITS:
        raise UserError(f"{name} is {unit!r}; use one of {', '.join(UNITS)}")


def check_warmup(length: float, unit: str, start: float) -> None:
    """Refuse a warm-up that cannot be: an unknown unit, a negative length, a start that is no share of the rate."""
    check_unit("warmup_by", unit)
    if length < 0:
        raise UserError(f"warmup_len is {length}; it must be at least 0")
    if not 0 <= start <= 1:
        raise UserError(f"warmup_start_factor is {start}; it must be between 0 and 1")


def check_one_sets_rate(loop: Loop) -> None:
    """Refuse two callbacks that set the learning rate (``sets_learning_rate``)."""
    found = [callback for callback in loop.callbacks if getattr(callback, "sets_learning_rate", False)]
    if len(found) > 1:
        names = ", ".join(type(callback).__name__ for callback in found)
        raise UserError(f"one callback sets the learning rate; there are {len(found)}: {names}")


def optimizer_groups(loop: Loop, name: str) -> list[dict[str, Any]]:
    """The parameter groups of a loop's optimizer, for the callback of that name.

    Raises:
        UserError: it has none.
    """
    if loop.optimizer is None:
        raise UserError(f"{name} needs an optimizer; a Calibrator has none")
    return loop.optimizer.param_groups


def initial_setting(group: Mapping[str, Any], name: str) -> float:
    """A parameter group's setting as the optimizer has it before training: ``lr``, ``momentum`` (Adam: its first
    beta) or another number.

    Raises:
        UserError: the optimizer has no such setting.
    """
    if name == "momentum" and name not in group and "betas" in group:
        return float(group["betas"][0])
    value = group.get("initial_lr" if name == "lr" else name)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        numbers = [key for key, each in group.items() if isinstance(each, float)]
        raise UserError(f"the optimizer has no {name} to schedule; it has {', '.join(numbers)}: name one of them")
    return float(value)


def write_setting(group: dict[str, Any], name: str, value: float) -> None:
    """Set what :func:`initial_setting` reads."""
    if name == "momentum" and name not in group:
        group["betas"] = (value, *group["betas"][1:])
    else:
        group[name] = value


def say_long_warmup(loop: Loop, steps: int, factor: Callable[[int], float] | None = None) -> None:
    """Warn where a warm-up of so many steps does not end in this training; ``factor``: of the rate, by step."""
    if steps <= loop.total_steps:
        return
    never = "the learning rate never gets to what is set"
    if factor is not None:
        highest = max(factor(step) for step in range(loop.total_steps))
        never = f"the learning rate never gets above {highest:.3g} of what is set"
    logger.warning(
        "the warm-up of %d steps is longer than the training of %d: %s; shorten the warm-up (warmup_steps, or the "
        "callback's own setting) or train longer",
        steps,
        loop.total_steps,
        never,
    )


class LrUpdater(Callback, ABC):
    """Sets every group's learning rate to ``initial_lr * factor(step)`` at the beginning of each step.

    Args:
        step_log_interval: write the rate to the log every so many steps; None: never (StatsMonitor shows it).
    """

    sets_learning_rate = True

    def __init__(self, *, step_log_interval: int | None = None) -> None:
        self.step_log_interval = step_log_interval

    def prepare(self, loop: Loop) -> None:
        """Read lengths off the loop; called once, before the first :meth:`factor`."""

    @abstractmethod
    def factor(self, step: int) -> float:
        """What the learning rate is multiplied by in step ``step`` (0, 1, ... over the whole training)."""

    def on_loop_begin(self, loop: Loop) -> None:
        optimizer_groups(loop, type(self).__name__)
        check_one_sets_rate(loop)
        self.prepare(loop)
        warmup: Warmup | None = getattr(self, "warmup", None)
        if warmup is not None:
            say_long_warmup(loop, warmup.steps, self.factor)

    def on_step_begin(self, loop: Loop) -> None:
        assert loop.optimizer is not None
        factor = self.factor(loop.progress.step)
        for group in loop.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        if self.step_log_interval and loop.progress.step % self.step_log_interval == 0:
            logger.info("step %d: learning rate %.4g", loop.progress.step, learning_rate(loop.optimizer))


class Warmup:
    """Linear rise of the rate: ``start + (1 - start) * step / span`` until ``span``, then 1.

    Args:
        steps: length.
        start: factor in step 0.
        inclusive: whether the last warm-up step already has the full rate (``span = steps - 1``).
    """

    def __init__(self, steps: int, start: float, inclusive: bool = False) -> None:
        self.steps, self.start = steps, start
        self.span = max(steps - 1, 0) if inclusive else steps

    def factor(self, step: int) -> float:
        """The warm-up's factor in ``step``; 1 after it."""
        return 1.0 if step >= self.span else self.start + (1.0 - self.start) * step / self.span
