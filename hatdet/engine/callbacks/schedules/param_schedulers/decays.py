"""Schedules that multiply by a number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hatdet.engine.callbacks.schedules.param_schedulers.scheduler import Scheduler


@dataclass(frozen=True, kw_only=True)
class Step(Scheduler):
    """Times ``gamma`` every ``step_size`` steps.

    Attributes:
        step_size: at least 1.
        gamma: see above.
    """

    step_size: int
    gamma: float = 0.1

    in_steps = ("step_size",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.step_size < 1:
            raise ValueError(f"step_size is at least 1, got {self.step_size}")

    def next(self, value: float, base: float, step: int) -> float:
        return value * self.gamma if step and step % self.step_size == 0 else value


@dataclass(frozen=True, kw_only=True)
class MultiStep(Scheduler):
    """Times ``gamma`` at each milestone, as often as it is named.

    Attributes:
        milestones: numbers of steps, counted from ``begin``.
        gamma: see above.
    """

    milestones: Sequence[int]
    gamma: float = 0.1

    in_steps = ("milestones",)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "milestones", tuple(self.milestones))

    def next(self, value: float, base: float, step: int) -> float:
        return float(value * self.gamma ** self.milestones.count(step))


@dataclass(frozen=True, kw_only=True)
class Exponential(Scheduler):
    """Times ``gamma`` each step.

    Attributes:
        gamma: see above.
    """

    gamma: float

    def next(self, value: float, base: float, step: int) -> float:
        return value * self.gamma if step else value
