"""Gradients: clipping and scaling."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import nn

from hatdet.engine.callbacks.base import Callback
from hatdet.registry import register
from hatdet.utils.errors import UserError

if TYPE_CHECKING:
    from hatdet.engine.loop import Loop


@register
class GradClip(Callback):
    """Limits the norm of all gradients together, before the optimizer step.

    Args:
        max_norm: longer gradients are scaled to this norm.
        norm_type: 2: Euclidean; ``inf`` also works.
    """

    def __init__(self, *, max_norm: float, norm_type: float = 2.0) -> None:
        if max_norm <= 0:
            raise UserError(f"max_norm is {max_norm}; it must be above 0")
        self.max_norm, self.norm_type = max_norm, norm_type

    def on_optimizer_step_begin(self, loop: Loop) -> None:
        nn.utils.clip_grad_norm_(loop.model.parameters(), self.max_norm, self.norm_type)


@register
class GradClipValue(Callback):
    """Limits each number of the gradients, before the optimizer step.

    Args:
        clip_value: they are cut to -clip_value ... clip_value.
    """

    def __init__(self, *, clip_value: float) -> None:
        if clip_value <= 0:
            raise UserError(f"clip_value is {clip_value}; it must be above 0")
        self.clip_value = clip_value

    def on_optimizer_step_begin(self, loop: Loop) -> None:
        nn.utils.clip_grad_value_(loop.model.parameters(), self.clip_value)


@register
class GradScale(Callback):
    """Multiplies the gradients of some modules, and clips.

    Args:
        module_and_scale: factor by name of a module (``{"backbone": 0.1}``), applied to all its parameters.
        clip_grad_norm: limit of the norm of all gradients after that; None: no clipping.
        clip_norm_type: kind of the norm.
    """

    def __init__(
        self,
        *,
        module_and_scale: Mapping[str, float] | None = None,
        clip_grad_norm: float | None = None,
        clip_norm_type: float = 2.0,
    ) -> None:
        self.module_and_scale = dict(module_and_scale or {})
        self.clip = None if clip_grad_norm is None else GradClip(max_norm=clip_grad_norm, norm_type=clip_norm_type)

    def on_loop_begin(self, loop: Loop) -> None:
        for name in self.module_and_scale:
            find_module(loop.model, name, "module_and_scale")

    def on_optimizer_step_begin(self, loop: Loop) -> None:
        for name, factor in self.module_and_scale.items():
            module = find_module(loop.model, name, "module_and_scale")
            gradients = [p.grad for p in module.parameters() if p.grad is not None]
            if gradients:
                torch._foreach_mul_(gradients, factor)
        if self.clip is not None:
            self.clip.on_optimizer_step_begin(loop)


@register
class OscillationDamping(Callback):
    """Pulls the weights of a quantized model towards the values that they are rounded to.

    In training with rounded weights, one that ends near the border of two codes jumps from one to the other and back,
    and what is saved is where it happened to be. Source: M. Nagel, M. Fournarakis, Y. Bondarenko, T. Blankevoort,
    "Overcoming Oscillations in Quantization-Aware Training" (ICML 2022, arXiv 2203.11086), section 4.2: a loss
    ``lambda * |w - rounded(w)|^2`` whose lambda rises along half a cosine. Its gradient is added here, measured by what
    the layer learns with, so that one number suits all layers: in the last step a weight that is half a code away from
    its value is pulled by ``strength`` times the root mean square of its layer's gradient.

    Args:
        strength: of the pull at the end; 0: none.
    """

    def __init__(self, *, strength: float) -> None:
        if strength < 0:
            raise UserError(f"strength of the damping is {strength}; it must be 0 or above")
        self.strength = strength

    def on_loop_begin(self, loop: Loop) -> None:
        if not callable(getattr(loop.model, "rounded_weights", None)):
            raise UserError(f"OscillationDamping needs a quantized model; this is a {type(loop.model).__name__}")

    @torch.no_grad()
    def on_optimizer_step_begin(self, loop: Loop) -> None:
        done = loop.progress.step / max(1, loop.total_steps - 1)
        pull = self.strength * 0.5 * (1.0 - math.cos(math.pi * min(1.0, done)))
        if pull <= 0:
            return
        for weight, rounded, step in loop.model.rounded_weights():  # type: ignore[operator]
            if weight.grad is not None:
                level = weight.grad.square().mean().sqrt()
                weight.grad += (weight.detach() - rounded) * (2.0 * pull * level / step)


def find_module(model: nn.Module, name: str, argument: str) -> nn.Module:
    """The submodule of that name.

    Raises:
        UserError: there is none; the message has the names at the level where the search ended.
    """
    module = model
    for part in name.split("."):
        children = dict(module.named_children())
        if part not in children:
            raise UserError(
                f"{argument}: the model has no module {name!r}; at {part!r} there are {', '.join(children)}"
            )
        module = children[part]
    return module
