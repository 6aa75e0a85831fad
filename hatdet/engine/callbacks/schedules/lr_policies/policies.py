"""The policies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hatdet.engine.callbacks.schedules.lr_policies.policy import Place, Policy


def between(first: float, last: float, share: float, how: str = "cos", weight: float = 1.0) -> float:
    """From ``first`` to ``last``, on half a cosine or on a line."""
    if how == "linear":
        return first + (last - first) * share
    return last + 0.5 * weight * (first - last) * (math.cos(math.pi * share) + 1)


@dataclass(frozen=True, kw_only=True)
class Fixed(Policy):
    """The optimizer's value."""

    def regular(self, base: float, place: Place) -> float:
        return base


@dataclass(frozen=True, kw_only=True)
class Step(Policy):
    """Times ``gamma`` at each of ``step``, or every ``step``; not below ``min_lr``."""

    step: int | Sequence[int]
    gamma: float = 0.1
    min_lr: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        steps = [self.step] if isinstance(self.step, int) else self.step
        if any(each < 1 for each in steps):
            raise ValueError(f"step is at least 1, got {self.step}")

    def regular(self, base: float, place: Place) -> float:
        done = self.progress(place)[0]
        count = done // self.step if isinstance(self.step, int) else sum(done >= each for each in self.step)
        value = base * self.gamma**count
        return value if self.min_lr is None else max(value, self.min_lr)


@dataclass(frozen=True, kw_only=True)
class Exp(Policy):
    """``base gamma^progress``."""

    gamma: float

    def regular(self, base: float, place: Place) -> float:
        return float(base * self.gamma ** self.progress(place)[0])


@dataclass(frozen=True, kw_only=True)
class Poly(Policy):
    """``min_lr + (base - min_lr) (1 - progress / all)^power``."""

    power: float = 1.0
    min_lr: float = 0.0

    def regular(self, base: float, place: Place) -> float:
        done, length = self.progress(place)
        return float((base - self.min_lr) * (1 - done / length) ** self.power + self.min_lr)


@dataclass(frozen=True, kw_only=True)
class Inv(Policy):
    """``base (1 + gamma progress)^-power``."""

    gamma: float
    power: float = 1.0

    def regular(self, base: float, place: Place) -> float:
        return float(base * (1 + self.gamma * self.progress(place)[0]) ** -self.power)


@dataclass(frozen=True, kw_only=True)
class Floored(Policy):
    """A policy that ends at ``min_lr``, or at ``min_lr_ratio`` times the base value; one of the two is given."""

    min_lr: float | None = None
    min_lr_ratio: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.min_lr is None) == (self.min_lr_ratio is None):
            raise ValueError(f"give one of min and min ratio, got {self.min_lr} and {self.min_lr_ratio}")

    def low(self, base: float) -> float:
        """The last value."""
        if self.min_lr is not None:
            return self.min_lr
        assert self.min_lr_ratio is not None
        return base * self.min_lr_ratio


@dataclass(frozen=True, kw_only=True)
class CosineAnnealing(Floored):
    """Half a cosine down."""

    def regular(self, base: float, place: Place) -> float:
        done, length = self.progress(place)
        return between(base, self.low(base), done / length)


@dataclass(frozen=True, kw_only=True)
class LinearAnnealing(Floored):
    """A line down."""

    def regular(self, base: float, place: Place) -> float:
        done, length = self.progress(place)
        return between(base, self.low(base), done / length, "linear")


@dataclass(frozen=True, kw_only=True)
class FlatCosineAnnealing(Floored):
    """The base value, and half a cosine down from ``start_percent`` (a share, 0 to below 1) on."""

    start_percent: float = 0.75

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.start_percent < 1:
            raise ValueError(f"start_percent is a share, from 0 to below 1, got {self.start_percent}")

    def regular(self, base: float, place: Place) -> float:
        done, length = self.progress(place)
        begin = round(length * self.start_percent)
        return base if done < begin else between(base, self.low(base), (done - begin) / (length - begin))


@dataclass(frozen=True, kw_only=True)
class CosineRestart(Floored):
    """Half a cosine down in each of ``periods``, whose height its weight multiplies."""

    periods: Sequence[int]
    restart_weights: Sequence[float] = (1,)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.periods) != len(self.restart_weights):
            raise ValueError(f"each period has a weight, got {len(self.periods)} and {len(self.restart_weights)}")

    def regular(self, base: float, place: Place) -> float:
        done, begin = self.progress(place)[0], 0
        for period, weight in zip(self.periods, self.restart_weights):
            if done < begin + period:
                return between(base, self.low(base), (done - begin) / period, weight=weight)
            begin += period
        return self.low(base)


@dataclass(frozen=True, kw_only=True)
class YOLOX(CosineAnnealing):
    """A parabola up in the warm-up, half a cosine down, and the last value for ``num_last_epochs``."""

    num_last_epochs: int

    def regular(self, base: float, place: Place) -> float:
        (done, length), warm = self.progress(place), self.warmup_length(place)
        flat = place.epoch_length * self.num_last_epochs
        if done + 1 >= length - flat:
            return self.low(base)
        return between(base, self.low(base), (done + 1 - warm) / (length - warm - flat))

    def warmed(self, base: float, place: Place) -> float:
        return base * self.warmup_ratio * ((place.iteration + 1) / self.warmup_length(place)) ** 2
