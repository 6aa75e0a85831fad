"""What every schedule is: a span of steps, and the next value of the present one."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

FOREVER = 1_000_000_000


@dataclass(frozen=True, kw_only=True)
class Scheduler(ABC):
    """Changes a value once a step (an epoch, or an iteration), from its first step to its last.

    Several work on one value, in their order; each takes the value as the others left it.

    Attributes:
        begin: step before which it acts for the first time.
        end: step from which on it does nothing.
        by_epoch: a step is an epoch, otherwise an iteration.
        last_step: how many of its own steps count as done, less one.
        verbose: not used: the log shows the rates.
    """

    begin: int = 0
    end: int = FOREVER
    by_epoch: bool = True
    last_step: int = -1
    verbose: bool = False

    in_steps: ClassVar[tuple[str, ...]] = ()
    """Arguments besides begin and end that count steps."""

    def __post_init__(self) -> None:
        if self.end <= self.begin:
            raise ValueError(f"end comes after begin, got begin={self.begin} and end={self.end}")
        if self.last_step < -1:
            raise ValueError(f"last_step is at least -1, got {self.last_step}")

    @property
    def steps(self) -> int:
        """From the first to the last."""
        return self.end - self.begin

    def base(self, initial: float) -> float:
        """The value that it starts from, for itself and those after it; ``initial`` is the optimizer's."""
        return initial

    @abstractmethod
    def next(self, value: float, base: float, step: int) -> float:
        """The value after its ``step``-th step (0: the first).

        Args:
            value: the present one.
            base: what :meth:`base` gave.
        """

    def of_group(self, index: int) -> Scheduler:
        """As it is for a parameter group: arguments that are lists hold a number of each."""
        lists = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.metadata.get("each")}
        chosen = {name: value[index] for name, value in lists.items() if isinstance(value, tuple)}
        return dataclasses.replace(self, **chosen) if chosen else self

    @classmethod
    def by_iteration(cls, arguments: dict[str, Any], epoch_length: int) -> dict[str, Any]:
        """Arguments that count epochs, as iterations."""
        result = dict(arguments, by_epoch=False)
        for name in ("begin", "end", *cls.in_steps):
            value = result.get(name)
            if isinstance(value, (list, tuple)):
                result[name] = [int(each * epoch_length) for each in value]
            elif value is not None and value != FOREVER:
                result[name] = int(value * epoch_length)
        return result
