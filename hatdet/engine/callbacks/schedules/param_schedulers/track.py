"""A value through the iterations of a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hatdet.engine.callbacks.schedules.param_schedulers.plateau import Patience, ReduceOnPlateau
from hatdet.engine.callbacks.schedules.param_schedulers.scheduler import Scheduler

Validations = Mapping[int, Mapping[str, float]]
"""What validations measured, by the number of iterations done then."""


class Track:
    """The value that schedules make of an optimizer's, iteration by iteration.

    As MMEngine's hook has it: all act once before training, in their order; those by iteration after each iteration;
    those by epoch after the last one of an epoch; those that follow validations after each of them.

    It goes from the beginning, so that a resumed training has the same values.

    Args:
        initial: the optimizer's value.
        schedulers: in their order.
        epoch_length: iterations.
        validations: may grow.
    """

    def __init__(
        self, initial: float, schedulers: Sequence[Scheduler], epoch_length: int, validations: Validations
    ) -> None:
        self.schedulers, self.epoch_length, self.validations = schedulers, epoch_length, validations
        self.value, self.iteration, self._bases = initial, 0, []
        self._patience = [Patience(s) if isinstance(s, ReduceOnPlateau) else None for s in schedulers]
        self._turns = [-1] * len(schedulers)
        self._taken = [scheduler.last_step for scheduler in schedulers]
        base = initial
        for scheduler in schedulers:
            base = scheduler.base(base)
            self._bases.append(base)
        for index in range(len(schedulers)):
            self._step(index)

    def at(self, iteration: int) -> float:
        """The value used in an iteration (0: the first), not before the last one asked for."""
        while self.iteration < iteration:
            self.iteration += 1
            epochs = (False, True) if self.iteration % self.epoch_length == 0 else (False,)
            for by_epoch in epochs:
                for index, scheduler in enumerate(self.schedulers):
                    if scheduler.by_epoch == by_epoch:
                        self._step(index)
            self._validated()
        return self.value

    def _step(self, index: int) -> None:
        scheduler = self.schedulers[index]
        self._turns[index] += 1
        if scheduler.begin <= self._turns[index] < scheduler.end and self._patience[index] is None:
            self._taken[index] += 1
            self.value = scheduler.next(self.value, self._bases[index], self._taken[index])

    def _validated(self) -> None:
        measured = self.validations.get(self.iteration)
        for index, (scheduler, patience) in enumerate(zip(self.schedulers, self._patience)):
            if measured is None or patience is None or patience.rule.monitor not in measured:
                continue
            if scheduler.begin <= self._turns[index] < scheduler.end and patience.lost(measured[patience.rule.monitor]):
                self.value = patience.rule.reduced(self.value)
