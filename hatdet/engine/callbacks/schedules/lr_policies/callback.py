"""The learning rate, and the momentum, as configs of MMDetection 2.x say them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hatdet.engine.callbacks.base import Callback
from hatdet.engine.callbacks.schedules.lr_policies.names import momentum_policy, rate_policy
from hatdet.engine.callbacks.schedules.lr_policies.policy import Place
from hatdet.engine.callbacks.schedules.schedule import (
    check_one_sets_rate,
    initial_setting,
    optimizer_groups,
    say_long_warmup,
    write_setting,
)
from hatdet.registry import register
from hatdet.utils.annotations import Spec

if TYPE_CHECKING:
    from hatdet.engine.loop import Loop


@register
class LrPolicy(Callback):
    """Sets learning rate and momentum in each step, from the optimizer's own and the step alone.

    Args:
        lr_config: ``dict(policy="step", step=[8, 11], warmup="linear", warmup_iters=500, warmup_ratio=0.001)``, as
            MMDetection 2.x has it; ``policy`` is one of fixed, step, exp, poly, inv, CosineAnnealing,
            FlatCosineAnnealing, CosineRestart, LinearAnnealing, cyclic, OneCycle and YOLOX.
        momentum_config: ``dict(policy="cyclic", ...)``: step, CosineAnnealing, LinearAnnealing, cyclic or OneCycle;
            None: the momentum stays.
    """

    sets_learning_rate = True

    def __init__(self, *, lr_config: Spec, momentum_config: Spec | None = None) -> None:
        self.rate = rate_policy(lr_config)
        self.momentum = None if momentum_config is None else momentum_policy(momentum_config)

    def on_loop_begin(self, loop: Loop) -> None:
        check_one_sets_rate(loop)
        groups = optimizer_groups(loop, type(self).__name__)
        self._rates = [initial_setting(group, "lr") for group in groups]
        start = self._place(loop, 0)
        say_long_warmup(
            loop,
            self.rate.warmup_length(start),
            lambda step: self.rate.rate(self._rates[0], self._place(loop, step)) / (self._rates[0] or 1.0),
        )
        self._momenta = [] if self.momentum is None else [initial_setting(group, "momentum") for group in groups]

    def on_step_begin(self, loop: Loop) -> None:
        assert loop.optimizer is not None
        groups = loop.optimizer.param_groups
        place = self._place(loop, loop.progress.step)
        for group, base in zip(groups, self._rates):
            write_setting(group, "lr", self.rate.rate(base, place))
        if self.momentum is not None:
            for group, base in zip(groups, self._momenta):
                write_setting(group, "momentum", self.momentum.momentum(base, place))

    @staticmethod
    def _place(loop: Loop, step: int) -> Place:
        return Place(step, loop.total_steps, loop.num_epochs, loop.steps_per_epoch)
