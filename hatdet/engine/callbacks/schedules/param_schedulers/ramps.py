"""Warm-ups, and the polynomial."""

from __future__ import annotations

from dataclasses import dataclass

from hatdet.engine.callbacks.schedules.param_schedulers.scheduler import Scheduler


@dataclass(frozen=True, kw_only=True)
class Constant(Scheduler):
    """Times ``factor`` until the last step, which takes the factor away.

    Attributes:
        factor: above 0, at most 1.
    """

    factor: float = 1 / 3

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.factor <= 1:
            raise ValueError(f"factor is above 0 and at most 1, got {self.factor}")

    def next(self, value: float, base: float, step: int) -> float:
        if step == 0:
            return value * self.factor
        return value * (1 / self.factor) if step == self.steps - 1 else value


@dataclass(frozen=True, kw_only=True)
class Linear(Scheduler):
    """From ``start_factor`` times the value to ``end_factor`` times, on a line.

    Attributes:
        start_factor: above 0, at most 1.
        end_factor: from 0 to 1.
    """

    start_factor: float = 1 / 3
    end_factor: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.start_factor <= 1:
            raise ValueError(f"start_factor is above 0 and at most 1, got {self.start_factor}")
        if not 0 <= self.end_factor <= 1:
            raise ValueError(f"end_factor is from 0 to 1, got {self.end_factor}")

    def next(self, value: float, base: float, step: int) -> float:
        if step == 0:
            return value * self.start_factor
        rise = self.end_factor - self.start_factor
        return value * (1 + rise / ((self.steps - 1) * self.start_factor + (step - 1) * rise))


@dataclass(frozen=True, kw_only=True)
class QuadraticWarmup(Scheduler):
    """From 0 to the base value on a parabola: ``base ((step + 1) / steps)^2`` where nothing else acts."""

    def next(self, value: float, base: float, step: int) -> float:
        rise = base * (2 * step + 1) / self.steps**2
        return rise if step == 0 else value + rise


@dataclass(frozen=True, kw_only=True)
class Poly(Scheduler):
    """``eta_min + (base - eta_min) (1 - step / (steps - 1))^power``, step by step.

    Attributes:
        eta_min: the last value.
        power: 1 is a straight line.
    """

    eta_min: float = 0.0
    power: float = 1.0

    def next(self, value: float, base: float, step: int) -> float:
        if step == 0:
            return value
        return float((value - self.eta_min) * (1 - 1 / (self.steps - step)) ** self.power + self.eta_min)


def is_warmup(scheduler: Scheduler) -> bool:
    """Whether it leads a value up to what is set."""
    if isinstance(scheduler, Linear):
        return scheduler.start_factor < scheduler.end_factor
    return isinstance(scheduler, QuadraticWarmup) or (isinstance(scheduler, Constant) and scheduler.factor < 1)
