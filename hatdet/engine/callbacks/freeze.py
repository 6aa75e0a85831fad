"""Parts of a model that do not train, and ranges that no longer move."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import nn

from hatdet.engine.callbacks.base import Callback
from hatdet.engine.callbacks.grad import find_module
from hatdet.registry import register
from hatdet.utils.errors import UserError

if TYPE_CHECKING:
    from hatdet.engine.loop import Loop

logger = logging.getLogger("hatdet")


@register
class FreezeModule(Callback):
    """Freezes modules from an epoch on: no gradients, eval mode (batch statistics stay).

    Args:
        modules: names such as ``"backbone.stem"``.
        epoch: the first epoch (from 0) in which they are frozen.
        only_batchnorm: freeze only the statistics and parameters of the batch normalizations inside.
    """

    def __init__(self, *, modules: Sequence[str], epoch: int = 0, only_batchnorm: bool = False) -> None:
        self.modules, self.epoch, self.only_batchnorm = list(modules), epoch, only_batchnorm

    def on_loop_begin(self, loop: Loop) -> None:
        parts = self._parts(loop.model)
        if self.epoch <= loop.progress.epoch:
            self._freeze(parts)
        logger.info("frozen from epoch %d on: %s", self.epoch + 1, ", ".join(self.modules))

    def on_epoch_begin(self, loop: Loop) -> None:
        if loop.progress.epoch >= self.epoch:  # each epoch anew: model.train() has just woken them
            self._freeze(self._parts(loop.model))

    def _parts(self, model: nn.Module) -> list[nn.Module]:
        roots = [find_module(model, name, "modules") for name in self.modules]
        if not self.only_batchnorm:
            return roots
        norms = nn.modules.batchnorm._BatchNorm
        return [module for root in roots for module in root.modules() if isinstance(module, norms)]

    @staticmethod
    def _freeze(parts: list[nn.Module]) -> None:
        for part in parts:
            part.eval()
            for parameter in part.parameters():
                parameter.requires_grad_(False)
                parameter.grad = None  # what an earlier epoch left must not be applied again


@register
class FreezeObservers(Callback):
    """Stops the observers of a quantized model after a share of training, so that the rest trains with fixed ranges.

    Args:
        fraction: share of all steps with moving ranges.
    """

    def __init__(self, *, fraction: float = 1 / 3) -> None:
        if not 0 <= fraction <= 1:
            raise UserError(f"fraction is a share of the training, between 0 and 1; got {fraction}")
        self.fraction = fraction

    def on_loop_begin(self, loop: Loop) -> None:
        if not callable(getattr(loop.model, "set_observing", None)):
            raise UserError(f"FreezeObservers needs a quantized model; this is a {type(loop.model).__name__}")
        self.last = round(self.fraction * loop.total_steps)
        self.frozen: bool | None = None

    def on_step_begin(self, loop: Loop) -> None:
        frozen = loop.progress.step >= self.last
        if frozen != self.frozen:
            self.frozen = frozen
            loop.model.set_observing(not frozen)  # type: ignore[operator]
            if frozen:
                logger.info("step %d: activation ranges are frozen", loop.progress.step)
