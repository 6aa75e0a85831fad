"""Exponential moving average of the weights."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from hatdet.engine.callbacks.base import Callback
from hatdet.registry import register
from hatdet.utils.errors import UserError

if TYPE_CHECKING:
    from hatdet.engine.loop import Loop


@register("ExpMomentumEMA")
class ExponentialMovingAverage(Callback):
    """Averages the weights after each optimizer step; the average is what is validated and saved as ``state_dict``.

    With t = 0, 1, ... the number of the update::

        m(t) = (1 - momentum) * exp(-(1 + t) / gamma) + momentum
        average <- (1 - m) * average + m * weight                   (t = 0: a copy)

    Integer buffers are not averaged but copied, and so is every buffer of a module with the attribute
    ``ema_copy_buffers = True`` (a quantizer's scale belongs to its own range and cannot be averaged apart from it).

    Args:
        momentum: share of the present weights, in the end.
        gamma: how long, in updates, the average follows more closely than that; None: m = momentum from the start.
        update_buffers: average floating buffers (running statistics) too; False: copy them.
    """

    keeps_integers = False
    """Integer buffers keep what they were at the first update; otherwise they are those of the present."""

    def __init__(self, *, momentum: float = 0.0002, gamma: float | None = 2000.0, update_buffers: bool = True) -> None:
        if not 0 < momentum < 1:
            raise UserError(f"momentum of the average is the share of the new weights, between 0 and 1; got {momentum}")
        if gamma is not None and gamma <= 0:
            raise UserError(f"gamma is a number of updates above 0, or None; got {gamma}")
        self.momentum, self.gamma, self.update_buffers = momentum, gamma, update_buffers
        self.updates = 0
        self._names: list[str] = []
        self._sources: list[Tensor] = []
        self._averages: list[Tensor] = []

    def rate(self, update: int) -> float:
        """m(t)."""
        if self.gamma is None:
            return self.momentum
        return (1 - self.momentum) * math.exp(-(1 + update) / self.gamma) + self.momentum

    def averages(self) -> dict[str, Tensor]:
        """The averaged tensors by name; empty before the first update."""
        return dict(zip(self._names, self._averages, strict=True))

    def on_batch_end(self, loop: Loop) -> None:
        if loop.updated:
            self.update(loop.model)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take one step of the average."""
        if not self._averages:
            self._start(model)
        else:
            self._move(self.rate(self.updates))
        self.updates += 1

    def _move(self, share: float) -> None:
        """Move the averages towards the present."""
        for i, source in enumerate(self._sources):
            if source.shape != self._averages[i].shape:  # an observer found its number of channels
                self._averages[i] = source.detach().clone()
        floating = [i for i, source in enumerate(self._sources) if source.is_floating_point()]
        torch._foreach_lerp_([self._averages[i] for i in floating], [self._sources[i] for i in floating], share)

    def _start(self, model: nn.Module) -> None:
        chosen = averaged_tensors(model, self.update_buffers, self.keeps_integers)
        self._names, self._sources = list(chosen), list(chosen.values())
        self._averages = [source.detach().clone() for source in self._sources]

    def evaluation_weights(self, loop: Loop) -> AbstractContextManager[bool]:
        return self._swapped() if self.updates else contextlib.nullcontext(False)

    @contextlib.contextmanager
    def _swapped(self) -> Iterator[bool]:
        """The averages in the model, the model's own values aside. What is not averaged stays: it is the present."""
        raw = [source.detach().clone() for source in self._sources]
        self._write(self._averages)
        try:
            yield True
        finally:
            self._write(raw)

    @torch.no_grad()
    def _write(self, values: list[Tensor]) -> None:
        torch._foreach_copy_(self._sources, values)

    def state_dict(self) -> dict[str, Any]:
        # The averages themselves are the checkpoint's state_dict.
        return {"updates": self.updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.updates = int(state["updates"])

    @torch.no_grad()
    def on_resume(self, loop: Loop, checkpoint: Mapping[str, Any]) -> None:
        if not self.updates:
            return
        self._start(loop.model)
        for i, name in enumerate(self._names):
            saved = checkpoint["state_dict"][name].to(self._averages[i].device)
            if saved.shape == self._averages[i].shape:
                self._averages[i].copy_(saved)  # keeps the memory format
            else:
                self._averages[i] = saved.clone()


def averaged_tensors(model: nn.Module, update_buffers: bool, integers: bool = False) -> dict[str, Tensor]:
    """Parameters, and the buffers that are to be averaged (the floating ones, or all), by their names in the state
    dict, once each."""
    found: dict[str, Tensor] = {}
    seen: set[int] = set()
    for prefix, module in model.named_modules():
        tensors: dict[str, Tensor] = dict(module.named_parameters(recurse=False))
        if update_buffers and not getattr(module, "ema_copy_buffers", False):
            kept = module._non_persistent_buffers_set
            tensors |= {name: b for name, b in module.named_buffers(recurse=False) if name not in kept}
        for name, tensor in tensors.items():
            if (tensor.is_floating_point() or integers) and id(tensor) not in seen:
                seen.add(id(tensor))
                found[f"{prefix}.{name}" if prefix else name] = tensor
    return found
