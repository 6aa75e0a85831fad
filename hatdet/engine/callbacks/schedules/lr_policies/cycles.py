"""Policies that go up and down."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from hatdet.engine.callbacks.schedules.lr_policies.policies import between
from hatdet.engine.callbacks.schedules.lr_policies.policy import Place, Policy


def _check_cycle(share: float, name: str, how: str) -> None:
    if not 0 <= share <= 1:
        raise ValueError(f"{name} is a share, from 0 to 1, got {share}")
    if how not in ("cos", "linear"):
        raise ValueError(f"anneal_strategy is 'cos' or 'linear', got {how!r}")


@dataclass(frozen=True, kw_only=True)
class Cyclic(Policy):
    """From the base value to the first of ``target_ratio`` times it, and to the second, ``cyclic_times`` times.

    Attributes:
        by_epoch: must be False.
        target_ratio: one number: the second is a 100000th of it.
        cyclic_times: at least 1.
        step_ratio_up: share of a cycle in which the value rises (or falls first, as the ratio is).
        anneal_strategy: "cos" or "linear".
        gamma: how much of its height a cycle keeps of the one before it.
    """

    by_epoch: bool = False
    target_ratio: float | Sequence[float] = (10, 1e-4)
    cyclic_times: int = 1
    step_ratio_up: float = 0.4
    anneal_strategy: str = "cos"
    gamma: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.by_epoch:
            raise ValueError("a cycle goes by iteration; set by_epoch=False")
        if self.cyclic_times < 1:
            raise ValueError(f"cyclic_times is at least 1, got {self.cyclic_times}")
        _check_cycle(self.step_ratio_up, "step_ratio_up", self.anneal_strategy)

    def regular(self, base: float, place: Place) -> float:
        given = self.target_ratio if isinstance(self.target_ratio, Sequence) else [self.target_ratio]
        ratios = (given[0], given[1] if len(given) > 1 else given[0] / 1e5)
        length = max(place.iterations // self.cyclic_times, 1)
        rise = int(self.step_ratio_up * length)
        cycle, done = divmod(place.iteration, length)
        kept = self.gamma**cycle
        top = 1 - kept + ratios[0] * kept
        if done < rise:
            return between(base, base * top, done / rise, self.anneal_strategy)
        if not rise:  # the fall is the first part then, and the first part's end is what gamma draws to the base
            return between(base * ratios[0], base * (1 - kept + ratios[1] * kept), done / length, self.anneal_strategy)
        return between(base * top, base * ratios[1], (done - rise) / (length - rise), self.anneal_strategy)


@dataclass(frozen=True, kw_only=True)
class OneCycle(Policy):
    """Up from ``max_lr / div_factor`` to ``max_lr``, down to the first of it / ``final_div_factor`` (arXiv 1708.07120).

    Attributes:
        by_epoch: must be False.
        max_lr: the peak; the optimizer's value does not count.
        total_steps: None: all iterations.
        pct_start: share of them in which the value rises.
        anneal_strategy: "cos" or "linear".
        div_factor: see above.
        final_div_factor: see above.
        three_phase: it falls as it rose first, and to the end after that.
    """

    by_epoch: bool = False
    max_lr: float
    total_steps: int | None = None
    pct_start: float = 0.3
    anneal_strategy: str = "cos"
    div_factor: float = 25.0
    final_div_factor: float = 1e4
    three_phase: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.by_epoch:
            raise ValueError("a cycle goes by iteration; set by_epoch=False")
        _check_cycle(self.pct_start, "pct_start", self.anneal_strategy)

    def regular(self, base: float, place: Place) -> float:
        low, end = self.max_lr / self.div_factor, self.max_lr / self.div_factor / self.final_div_factor
        return _cycle(self, place, low, self.max_lr, end)


@dataclass(frozen=True, kw_only=True)
class OneCycleMomentum(Policy):
    """The momentum of a :class:`OneCycle`: down from ``max_momentum`` to ``base_momentum``, and up again.

    Attributes:
        by_epoch: must be False.
        base_momentum: the least.
        max_momentum: the greatest; the optimizer's does not count.
        total_steps: None: all iterations.
        pct_start: share of them in which the value falls.
        anneal_strategy: "cos" or "linear".
        three_phase: as that of the learning rate.
    """

    by_epoch: bool = False
    base_momentum: float = 0.85
    max_momentum: float = 0.95
    total_steps: int | None = None
    pct_start: float = 0.3
    anneal_strategy: str = "cos"
    three_phase: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.by_epoch:
            raise ValueError("a cycle goes by iteration; set by_epoch=False")
        _check_cycle(self.pct_start, "pct_start", self.anneal_strategy)

    def regular(self, base: float, place: Place) -> float:
        return _cycle(self, place, self.max_momentum, self.base_momentum, self.max_momentum)


def _cycle(cycle: OneCycle | OneCycleMomentum, place: Place, first: float, turn: float, last: float) -> float:
    """From ``first`` to ``turn``, to ``last``; in three phases back to ``first`` before that."""
    total = cycle.total_steps or place.iterations
    corners = [(0.0, first), (cycle.pct_start * total - 1, turn)]
    if cycle.three_phase:
        corners += [(2 * cycle.pct_start * total - 2, first)]
    corners += [(total - 1.0, last)]
    for (begin, low), (end, high) in itertools.pairwise(corners):
        if begin < end and place.iteration <= end:
            return between(low, high, (place.iteration - begin) / (end - begin), cycle.anneal_strategy)
    return last
