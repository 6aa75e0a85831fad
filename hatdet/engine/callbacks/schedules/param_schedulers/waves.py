"""Cosines."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from hatdet.engine.callbacks.schedules.param_schedulers.scheduler import FOREVER, Scheduler


def _along(value: float, low: float, step: int, length: int) -> float:
    """One step along half a cosine down to ``low`` that is ``length`` steps long."""
    now, before = (1 + math.cos(math.pi * i / length) for i in (step, step - 1))
    return now / before * (value - low) + low


@dataclass(frozen=True, kw_only=True)
class _Floored(Scheduler):
    """A schedule with a least value.

    Attributes:
        eta_min: the least value.
        eta_min_ratio: that, as a share of the base value; one of the two.
    """

    eta_min: float | None = None
    eta_min_ratio: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.eta_min is not None and self.eta_min_ratio is not None:
            raise ValueError(f"eta_min or eta_min_ratio, not both: got {self.eta_min} and {self.eta_min_ratio}")

    def low(self, base: float) -> float:
        """The least value."""
        return self.eta_min or 0.0 if self.eta_min_ratio is None else base * self.eta_min_ratio


@dataclass(frozen=True, kw_only=True)
class CosineAnnealing(_Floored):
    """Half a cosine down in ``T_max`` steps (and up again, where there are more of them) (arXiv 1608.03983).

    Attributes:
        T_max: None: all steps.
    """

    T_max: int | None = None

    in_steps = ("T_max",)

    def next(self, value: float, base: float, step: int) -> float:
        length, low = self.T_max or self.steps, self.low(base)
        if step == 0:
            return value
        if (step - 1 - length) % (2 * length) == 0:  # at the lowest point: the ratio would be 0 / 0
            return value + (base - low) * (1 - math.cos(math.pi / length)) / 2
        return _along(value, low, step, length)


@dataclass(frozen=True, kw_only=True)
class CosineRestart(_Floored):
    """Half a cosine down in each period, from its weight times the base value (arXiv 1608.03983).

    Attributes:
        periods: their numbers of steps.
        restart_weights: one each.
    """

    periods: Sequence[int]
    restart_weights: Sequence[float] = (1,)

    in_steps = ("periods",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.eta_min is None and self.eta_min_ratio is None:
            raise ValueError("give eta_min or eta_min_ratio")
        if len(self.periods) != len(self.restart_weights):
            raise ValueError(f"each period has a weight, got {len(self.periods)} and {len(self.restart_weights)}")
        object.__setattr__(self, "periods", tuple(self.periods))
        object.__setattr__(self, "restart_weights", tuple(self.restart_weights))

    def next(self, value: float, base: float, step: int) -> float:
        begin = 0
        for period, weight in zip(self.periods, self.restart_weights):
            if step < begin + period:
                if step == begin:
                    return base * weight
                return _along(value, self.low(base), step - begin, period)
            begin += period
        return value


@dataclass(frozen=True, kw_only=True)
class OneCycle(Scheduler):
    """Up from ``eta_max / div_factor`` to ``eta_max``, and down to the first of it / ``final_div_factor``.

    Smith and Topin, arXiv 1708.07120. The optimizer's own value does not count.

    Attributes:
        eta_max: the peak; a list: of each parameter group.
        total_steps: None: all steps.
        pct_start: share of them in which the value rises.
        anneal_strategy: "cos" or "linear".
        div_factor: see above.
        final_div_factor: see above.
        three_phase: it falls as it rose first, and to the end after that.
    """

    eta_max: float | Sequence[float] = field(default=0.0, metadata={"each": True})
    total_steps: int | None = None
    pct_start: float = 0.3
    anneal_strategy: str = "cos"
    div_factor: float = 25.0
    final_div_factor: float = 1e4
    three_phase: bool = False

    in_steps = ("total_steps",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.pct_start <= 1:
            raise ValueError(f"pct_start is a share, from 0 to 1, got {self.pct_start}")
        if self.anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"anneal_strategy is 'cos' or 'linear', got {self.anneal_strategy!r}")
        if self.total_steps is not None and (self.total_steps < 1 or self._ends_early()):
            raise ValueError(f"total_steps is {self.total_steps}; it must reach from begin to end: {self.steps} steps")
        if isinstance(self.eta_max, list):
            object.__setattr__(self, "eta_max", tuple(self.eta_max))

    def _ends_early(self) -> bool:
        return self.total_steps is not None and self.end != FOREVER and self.steps > self.total_steps + 1

    def base(self, initial: float) -> float:
        assert not isinstance(self.eta_max, Sequence)
        return self.eta_max / self.div_factor

    def next(self, value: float, base: float, step: int) -> float:
        total, low = self.total_steps or self.steps, base / self.final_div_factor
        peak = base * self.div_factor
        corners = [(0.0, base), (self.pct_start * total - 1, peak)]
        if self.three_phase:
            corners.append((2 * self.pct_start * total - 2, base))
        corners.append((total - 1.0, low))
        *before, last = itertools.pairwise(corners)
        within = (pair for pair in before if pair[0][0] < pair[1][0] and step <= pair[1][0])
        (begin, first), (end, to) = next(within, last)
        return self._between(first, to, (step - begin) / (end - begin))

    def _between(self, first: float, last: float, share: float) -> float:
        if self.anneal_strategy == "linear":
            return (last - first) * share + first
        return last + (first - last) / 2 * (math.cos(math.pi * share) + 1)
