"""Cross-layer equalization: channels of very different size between two convolutions are brought to one size.

Source: M. Nagel, M. van Baalen, T. Blankevoort, M. Welling, "Data-Free Quantization Through Weight Equalization and
Bias Correction" (ICCV 2019, arXiv 1906.04721), section 4.1, equations 9 to 11. Channel i of the first convolution is
divided by ``s_i = sqrt(r1_i r2_i) / r2_i`` and in what reads it multiplied, with r the largest weights of the channel
on both sides; pairs are gone through until nothing moves.

The network stays the float network, so only what ``f(x / s) = f(x) / s`` holds for may stand between the two: ReLU or
nothing, pooling and resizing. The paper puts ReLU in the place of ReLU6; that is another network, and a ReLU6 with a
limit for each channel is no operator of any runtime, so pairs around ReLU6 and around curves (SiLU, Hardswish) stay.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hatdet.quantization.operators.base import Step
from hatdet.quantization.ptq.walk import parameter_users
from hatdet.quantization.qat.fx_adapter import Plan
from hatdet.quantization.qat.quantized_conv import QuantizedConv2d

SCALABLE = frozenset(("none", "relu"))
"""Activations f with f(a * x) = a * f(x) for every a > 0."""
PASSING = frozenset(("max_pool", "average_pool", "global_average_pool", "global_max_pool", "resize_nearest",
                     "resize_bilinear", "pad"))  # fmt: skip
"""Operators of which the same holds for each channel by itself."""
ROUNDS = 20
_SETTLED = 0.01
"""Largest relative change by a round in which nothing moves any more."""

Pair = tuple[QuantizedConv2d, list[QuantizedConv2d]]


def pairs(plan: Plan) -> list[Pair]:
    """Every convolution whose channels can be scaled, with all those that read them."""
    users = parameter_users(plan)
    convs = {step.output: step.module for step in plan.steps if type(step.module) is QuantizedConv2d}
    alone = {output for output, c in convs.items() if users[id(c.weight)] == users[id(c.bias)] == 1}
    readers: dict[str, list[Step]] = {}
    for step in plan.steps:
        for name in step.inputs:
            readers.setdefault(name, []).append(step)
    found: list[Pair] = []
    for step in plan.steps:
        conv = step.module
        if isinstance(conv, QuantizedConv2d) and step.output in alone and conv.activation in SCALABLE:
            behind = _behind(step.output, plan, readers)
            if behind and all(s.output in alone for s in behind):
                found.append((conv, [s.module for s in behind if isinstance(s.module, QuantizedConv2d)]))
    return found


def _behind(name: str, plan: Plan, readers: dict[str, list[Step]]) -> list[Step]:
    """The steps that a value reaches past those of :data:`PASSING`; none where it is an output too."""
    if name in plan.outputs:
        return []
    found: list[Step] = []
    for step in readers.get(name, []):
        further = _behind(step.output, plan, readers) if step.kind in PASSING else [step]
        if not further:
            return []
        found += further
    return found


@torch.no_grad()
def equalize(plan: Plan) -> int:
    """Equalize all pairs of a plan, in place; the weights' scales do not follow by themselves.

    Returns:
        How many pairs there are.
    """
    found = pairs(plan)
    for _ in range(ROUNDS):
        if max((_equalize(first, behind) for first, behind in found), default=0.0) < _SETTLED:
            break
    return len(found)


def _equalize(first: QuantizedConv2d, behind: list[QuantizedConv2d]) -> float:
    """Returns the largest relative change of a channel."""
    rows = first.weight.abs().flatten(1).amax(1)
    columns = torch.stack([_by_input(conv).abs().amax((1, 3, 4)).flatten() for conv in behind]).amax(0)
    usable = (rows > 0) & (columns > 0)
    factor = torch.where(usable, (columns / rows).sqrt(), torch.ones_like(rows))  # 1 / s
    factor = torch.where(factor.isfinite() & (factor > 0), factor, torch.ones_like(factor))
    first.weight.mul_(factor.view(-1, 1, 1, 1))
    assert first.bias is not None
    first.bias.mul_(factor)
    for conv in behind:
        _by_input(conv).div_(factor.view(conv.groups, 1, -1, 1, 1))
    return float((factor - 1.0).abs().max())


def _by_input(conv: QuantizedConv2d) -> Tensor:
    """A view of the weight (g, O / g, I / g, kh, kw)."""
    return conv.weight.unflatten(0, (conv.groups, -1))
