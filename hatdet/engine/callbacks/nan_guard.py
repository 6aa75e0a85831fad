"""Losses and gradients that are not finite."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from hatdet.engine.callbacks.base import Callback
from hatdet.registry import register
from hatdet.utils import distributed
from hatdet.utils.errors import UserError

if TYPE_CHECKING:
    from hatdet.engine.loop import Loop

logger = logging.getLogger("hatdet")


class TrainingDiverged(UserError):
    """The loss stayed NaN or infinite."""


@register
class NanGuard(Callback):
    """Leaves out single steps whose loss or gradients are not finite; ends training when they do not stop.

    A step that is left out changes nothing: running statistics, which its forward has already touched, are put
    back. On a GPU the check waits for the step's result.

    Args:
        max_bad_steps: so many bad steps in a row end training.
    """

    def __init__(self, *, max_bad_steps: int = 10) -> None:
        if max_bad_steps < 1:
            raise UserError(f"max_bad_steps is {max_bad_steps}; it must be at least 1")
        self.max_bad_steps, self.in_a_row, self.skipped = max_bad_steps, 0, 0
        self.good_steps, self.last_losses, self.loss_finite = 0, "", True
        self._buffers: dict[str, Tensor] = {}
        self._copies: list[Tensor] = []

    @torch.no_grad()
    def on_batch_begin(self, loop: Loop) -> None:
        if loop.batch_processor.between_updates(loop):
            return  # the state to return to is that before the first batch of the update
        buffers = {name: b for name, b in loop.model.named_buffers() if b.is_floating_point()}
        same = buffers.keys() == self._buffers.keys() and all(
            b.shape == c.shape for b, c in zip(buffers.values(), self._copies, strict=True)
        )
        self._buffers = buffers
        if not same:
            self._copies = [b.clone() for b in buffers.values()]
        elif buffers:
            torch._foreach_copy_(self._copies, list(buffers.values()))

    @torch.no_grad()
    def on_optimizer_step_begin(self, loop: Loop) -> None:
        if self._finite(loop):
            self.in_a_row = 0
            self.good_steps += 1
            return
        loop.skip_update()
        now = dict(loop.model.named_buffers())
        for name, copy in zip(self._buffers, self._copies, strict=True):
            now[name].resize_(copy.shape).copy_(copy)  # an observer may have found its number of channels in this step
        self.in_a_row += 1
        self.skipped += 1
        losses = ", ".join(f"{name} {float(value):.4g}" for name, value in loop.losses.items())
        logger.warning("step %d left out, loss or gradients are not finite: %s", loop.progress.step, losses)
        self.last_losses = losses
        if self.in_a_row >= self.max_bad_steps:
            self._give_up()

    def on_loop_end(self, loop: Loop) -> None:
        if self.in_a_row and not self.good_steps:  # a training too short for max_bad_steps, of which nothing came
            if not self.loss_finite:
                self._give_up()
            logger.warning(
                "no step was taken: the gradients were too large in all %d; the weights are those of the start; use "
                "GradClip or a lower learning rate",
                self.in_a_row,
            )

    def _give_up(self) -> None:
        raise TrainingDiverged(
            f"training has diverged: the loss or the gradients of {self.in_a_row} steps in a row are not finite "
            f"({self.last_losses}); use a lower learning rate, a longer warm-up or GradClip, and look at the data"
        )

    def _finite(self, loop: Loop) -> bool:
        assert loop.loss is not None
        checked = [loop.loss.float()]
        if loop.batch_processor.scaler(loop.device) is None:  # a scaler expects overflows and handles them itself
            gradients = [p.grad for p in loop.model.parameters() if p.grad is not None]
            if gradients:
                checked.append(nn.utils.get_total_norm(gradients).to(checked[0].device))
        each = torch.isfinite(torch.stack(checked))
        self.loss_finite = bool(each[0])
        finite = each.all()
        # All processes must leave out the same steps.
        return bool(distributed.reduce_mean(finite.float()) == 1.0)

    def state_dict(self) -> dict[str, Any]:
        return {"in_a_row": self.in_a_row, "skipped": self.skipped}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.in_a_row, self.skipped = int(state["in_a_row"]), int(state["skipped"])
