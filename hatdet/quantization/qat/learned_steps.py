"""Learned step sizes of weights: Esser et al., "Learned Step Size Quantization", ICLR 2020 (arXiv 1902.08153).

A weight is w' = s * q with q = clamp(round(w / s), -Q, Q). Where |w / s| < Q the gradient of s is q - w / s, else -Q
or Q (equation 3); that of w passes where |w / s| <= Q alone (equation 5). The gradient of s is scaled by
1 / sqrt(N * Q), N the number of weights that share it (section 2.2): here those of an output channel.

What is trained is ``step`` = s * R, R the power of two next to sqrt(Q). Its size is that of the weights, whatever Q is
(the paper begins with s = 2 mean|w| / sqrt(Q)), so that an optimizer whose steps do not follow the gradient's size
(Adam) moves it, for its size, as it moves weights. It begins where the observed scale is: training starts from the
calibrated model, to the last bit.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor


def step_of(scale: Tensor, limit: int) -> Tensor:
    """The trained value of a scale; ``limit``: the largest code, Q."""
    return scale.detach() * _ratio(limit)


def scale_of(step: Tensor, limit: int) -> Tensor:
    """The scale of a trained value, which may have either sign."""
    return step.detach().abs() / _ratio(limit)


def _ratio(limit: int) -> float:
    """R: 2 for Q = 7, 8 for Q = 127."""
    return float(2.0 ** round(math.log2(limit) / 2))


def step_gradient(
    gradient: Tensor, weight: Tensor, codes: Tensor, scale: Tensor, step: Tensor, held: Tensor, limit: int
) -> Tensor:
    """Gradient of ``step`` (O,).

    Args:
        gradient: of the quantized weight w' (O, ...). weight, codes: w and q. scale: s (O,).
        held: (O,) bool: where something else than the step makes the scale; nothing moves it there.
    """
    column = (-1, *(1,) * (weight.dim() - 1))
    ratio = weight / scale.view(column)
    slope = torch.where(ratio.abs() < limit, codes - ratio, codes)
    count = weight[0].numel()
    found = (gradient * slope).flatten(1).sum(1) / math.sqrt(count * limit)
    found = torch.where(held, torch.zeros_like(found), found)
    return torch.where(step < 0, -found, found) / _ratio(limit)


def passes(weight: Tensor, scale: Tensor, limit: int) -> Tensor:
    """Where the gradient of a weight passes."""
    return weight.abs() <= scale.view(-1, *(1,) * (weight.dim() - 1)) * limit


class QuantizeLearned(torch.autograd.Function):
    """A weight (O, ...) -> s * q, for a forward pass in real numbers; gradients of the weight and of the step."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, step: Tensor, scale: Tensor, held: Tensor, limit: int) -> Tensor:
        column = scale.view(-1, *(1,) * (weight.dim() - 1))
        codes = torch.round(weight / column).clamp_(-limit, limit)
        ctx.save_for_backward(weight, codes, scale, step, held)
        ctx.limit = limit
        return codes * column

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        weight, codes, scale, step, held = ctx.saved_tensors
        of_step = step_gradient(grad, weight, codes, scale, step, held, ctx.limit)
        return grad * passes(weight, scale, ctx.limit), of_step, None, None, None


@torch.no_grad()
def least_squares_scale(weight: Tensor, limit: int) -> Tensor:
    """The scale of each channel with which rounding loses least: (O,), minimizing sum (w - s * q)**2.

    Scales from 0.3 to 1 times max|w| / Q are tried; then the best one's codes and the scale that suits these,
    sum(w * q) / sum(q * q), are taken by turns as long as the error falls.

    Args:
        weight: (O, ...). limit: the largest code, Q.
    """
    flat = weight.detach().flatten(1)
    peak = flat.abs().amax(1) / limit
    best, least = peak.clone(), _error(flat, peak, limit)
    for number in range(_CANDIDATES):
        best, least = _better(flat, peak * (0.3 + 0.7 * number / _CANDIDATES), best, least, limit)
    for _ in range(_TURNS):
        codes = _codes(flat, best, limit)
        suited = (flat * codes).sum(1) / codes.square().sum(1).clamp(min=1.0)
        best, least = _better(flat, suited, best, least, limit)
    return best


_CANDIDATES, _TURNS = 28, 3


def _codes(flat: Tensor, scale: Tensor, limit: int) -> Tensor:
    return torch.round(flat / scale.clamp(min=2.0**-60)[:, None]).clamp_(-limit, limit)


def _error(flat: Tensor, scale: Tensor, limit: int) -> Tensor:
    return (_codes(flat, scale, limit) * scale[:, None] - flat).square().sum(1)


def _better(flat: Tensor, scale: Tensor, best: Tensor, least: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    error = _error(flat, scale, limit)
    falls = error < least
    return torch.where(falls, scale, best), torch.where(falls, error, least)
