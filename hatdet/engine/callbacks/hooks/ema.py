"""Averages of the weights in MMEngine's forms, and in those of MMDetection 2.x."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import nn

from hatdet.engine.callbacks.ema import ExponentialMovingAverage
from hatdet.registry import register
from hatdet.utils.errors import UserError

if TYPE_CHECKING:
    from hatdet.engine.loop import Loop

EmaType = Literal["ExponentialMovingAverage", "ExpMomentumEMA", "MomentumAnnealingEMA", "StochasticWeightAverage"]


class _Average(ExponentialMovingAverage):
    """An average once an iteration (not once an update), every ``interval`` of them.

    Where buffers are averaged, an integer one keeps what it was when the average began, as the reference has it.
    """

    def __init__(self, *, momentum: float, interval: int, update_buffers: bool) -> None:
        super().__init__(momentum=momentum, gamma=None, update_buffers=update_buffers)
        if interval < 1:
            raise UserError(f"interval is a number of iterations, at least 1; got {interval}")
        self.interval, self.keeps_integers = interval, update_buffers


@register
class EMAHook(_Average):
    """The average of MMEngine's hook: a copy first, then ``average + m (weight - average)``.

    With t = 1, 2, ... the iterations since the copy, where t is a multiple of ``interval``::

        ExponentialMovingAverage   m = momentum
        ExpMomentumEMA             m = (1 - momentum) * exp(-(1 + t) / gamma) + momentum
        MomentumAnnealingEMA       m = max(momentum, gamma / (gamma + t))
        StochasticWeightAverage    m = 1 / (t // interval + 1)

    Args:
        ema_type: see above.
        momentum: share of the present weights.
        gamma: None: 2000 (ExpMomentumEMA) or 100 (MomentumAnnealingEMA).
        interval: see above.
        update_buffers: average floating buffers too; False: they are those of the present.
        begin_iter: the iteration (1 is the first) with which the average begins.
        begin_epoch: the epoch; one of the two.
        strict_load: not used: what does not fit is always refused.
    """

    def __init__(
        self,
        *,
        ema_type: EmaType = "ExponentialMovingAverage",
        momentum: float = 0.0002,
        gamma: float | None = None,
        interval: int = 1,
        update_buffers: bool = False,
        begin_iter: int = 0,
        begin_epoch: int = 0,
        strict_load: bool = False,
    ) -> None:
        super().__init__(momentum=momentum, interval=interval, update_buffers=update_buffers)
        if ema_type not in get_args(EmaType):
            raise UserError(f"ema_type is {ema_type!r}; use one of {', '.join(get_args(EmaType))}")
        if min(begin_iter, begin_epoch) < 0 or (begin_iter and begin_epoch):
            raise UserError(
                f"begin_iter and begin_epoch are at least 0, and one of them is 0; got {begin_iter} and {begin_epoch}"
            )
        if gamma is not None and gamma <= 0:
            raise UserError(f"gamma is a number of iterations above 0, or None; got {gamma}")
        self.ema_type = ema_type
        self.gamma = gamma or (2000.0 if ema_type == "ExpMomentumEMA" else 100.0)
        self.begin_iter, self.begin_epoch = begin_iter, begin_epoch

    def rate(self, update: int) -> float:
        """m at t = ``update``."""
        assert self.gamma is not None
        if self.ema_type == "ExpMomentumEMA":
            return (1 - self.momentum) * math.exp(-(1 + update) / self.gamma) + self.momentum
        if self.ema_type == "MomentumAnnealingEMA":
            return max(self.momentum, self.gamma / (self.gamma + update))
        if self.ema_type == "StochasticWeightAverage":
            return 1 / (update // self.interval + 1)
        return self.momentum

    def on_loop_begin(self, loop: Loop) -> None:
        if self.begin_epoch > loop.num_epochs or self.begin_iter > loop.total_steps:
            raise UserError(
                f"the average begins with epoch {self.begin_epoch} or iteration {self.begin_iter}, after the end of "
                f"{loop.num_epochs} epochs ({loop.total_steps} iterations); let it begin earlier"
            )

    def on_batch_end(self, loop: Loop) -> None:
        if loop.progress.epoch + 1 >= self.begin_epoch and loop.progress.step + 1 >= self.begin_iter:
            self.update(loop.model)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        if not self._averages:
            self._start(model)
        elif self.updates % self.interval == 0:
            self._move(self.rate(self.updates))
        self.updates += 1


class _FromTheStart(_Average):
    """The average of 2.x: it begins with the weights before training, and counts iterations of the training.

    Args:
        momentum: share of the present weights, in the end.
        interval: iterations between two steps of the average.
        skip_buffers: buffers are those of the present; False: floating ones are averaged too.
        resume_from: must be None: a resumed training finds its average in its checkpoint.
    """

    def __init__(
        self,
        *,
        momentum: float = 0.0002,
        interval: int = 1,
        skip_buffers: bool = False,
        resume_from: str | None = None,
    ) -> None:
        super().__init__(momentum=momentum, interval=interval, update_buffers=not skip_buffers)
        if resume_from is not None:
            raise UserError(f"resume_from={resume_from!r}: a resumed training has its average; leave resume_from out")

    def on_loop_begin(self, loop: Loop) -> None:
        if not self._averages:
            with torch.no_grad():
                self._start(loop.model)

    def on_batch_end(self, loop: Loop) -> None:
        if (loop.progress.step + 1) % self.interval == 0:
            with torch.no_grad():
                self._move(self.rate(loop.progress.step))
        self.updates += 1


@register
class ExpMomentumEMAHook(_FromTheStart):
    """``m = (1 - momentum) exp(-(1 + i) / total_iter) + momentum`` in iteration i.

    Args:
        total_iter: see above.
        momentum: share of the present weights, in the end.
        interval: iterations between two steps of the average.
        skip_buffers: buffers are those of the present.
        resume_from: must be None.
    """

    def __init__(
        self,
        *,
        total_iter: float = 2000,
        momentum: float = 0.0002,
        interval: int = 1,
        skip_buffers: bool = False,
        resume_from: str | None = None,
    ) -> None:
        super().__init__(momentum=momentum, interval=interval, skip_buffers=skip_buffers, resume_from=resume_from)
        if total_iter <= 0:
            raise UserError(f"total_iter is a number of iterations above 0; got {total_iter}")
        self.total_iter = total_iter

    def rate(self, update: int) -> float:
        return (1 - self.momentum) * math.exp(-(1 + update) / self.total_iter) + self.momentum


@register
class LinearMomentumEMAHook(_FromTheStart):
    """``m = min(momentum^interval, (1 + i) / (warm_up + i))`` in iteration i.

    Args:
        warm_up: see above.
        momentum: share of the present weights, in the end.
        interval: iterations between two steps of the average.
        skip_buffers: buffers are those of the present.
        resume_from: must be None.
    """

    def __init__(
        self,
        *,
        warm_up: float = 100,
        momentum: float = 0.0002,
        interval: int = 1,
        skip_buffers: bool = False,
        resume_from: str | None = None,
    ) -> None:
        super().__init__(momentum=momentum, interval=interval, skip_buffers=skip_buffers, resume_from=resume_from)
        if warm_up <= 0:
            raise UserError(f"warm_up is a number of iterations above 0; got {warm_up}")
        self.warm_up = warm_up

    def rate(self, update: int) -> float:
        return min(float(self.momentum**self.interval), (1 + update) / (self.warm_up + update))
