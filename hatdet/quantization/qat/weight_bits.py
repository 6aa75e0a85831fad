"""Bits of weights: 8, or for layers that are named 4, whose codes are in [-7, 7]. Everything else about a layer is as
with 8 bits: the same sums, the same requantization."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hatdet.quantization.operators.base import Step
from hatdet.quantization.qat.fake_quant import WeightFakeQuantize
from hatdet.quantization.qat.fx_adapter import Plan, QuantizedConv2d
from hatdet.quantization.qat.islands import matching_steps
from hatdet.utils.errors import UserError, nearest

AUTO = "auto"
"""Calibration chooses the layers (:mod:`hatdet.quantization.analysis.four_bits`)."""
QAT_SCALES = ("auto", "observed", "learned")
"""Of weights in QAT. ``observed``: they follow the largest weight; ``learned``: they are trained
(:mod:`hatdet.quantization.qat.learned_steps`); ``auto``: learned where weights have 4 bits."""
KEY = "four_bit_layers"
"""In the metadata of a model: names of the layers whose weights have 4 bits."""
_ALLOWED = "use 8, 4, a list of the layers that get 4 bits, such as ['backbone.stage4*'], or 'auto'"


def check_weight_bits(value: Any) -> None:
    """Refuse what ``weight_bits`` cannot be.

    Raises:
        UserError: with what it can be.
    """
    names = isinstance(value, (list, tuple)) and all(isinstance(name, str) for name in value)
    number = isinstance(value, int) and not isinstance(value, bool) and value in (8, 4)
    if not (names or number or value == AUTO):
        raise UserError(f"weight_bits is {value!r}; {_ALLOWED}")


def narrow_names(plan: Plan, value: Any) -> list[str]:
    """Names of the layers that get weights of 4 bits, in execution order; with ``auto`` none yet.

    Args:
        value: ``weight_bits``. Names are module paths (a module means all layers inside it), with ``*`` and ``?``.

    Raises:
        UserError: a name that means no layer with weights; the nearest ones are given.
    """
    check_weight_bits(value)
    names = [step.name for step in weighted_steps(plan)]
    if isinstance(value, int):
        return names if value == 4 else []
    chosen: set[str] = set()
    for pattern in () if value == AUTO else value:
        found = matching_steps(names, pattern)
        if not found:
            raise UserError(f"weight_bits: no layer with weights is named {pattern!r}; {_near(pattern, names)}")
        chosen |= found
    return [name for name in names if name in chosen]


def weighted_steps(plan: Plan) -> list[Step]:
    """The steps that multiply with weights."""
    return [step for step in plan.steps if isinstance(step.module, QuantizedConv2d)]


def quantizer_of(step: Step) -> WeightFakeQuantize:
    """Of a weighted step."""
    assert isinstance(step.module, QuantizedConv2d)
    return step.module.weight_fake_quant


def set_weight_bits(plan: Plan, four: Sequence[str]) -> None:
    """Give the layers of these names weights of 4 bits, all others 8; layers that share a weight go together."""
    steps = weighted_steps(plan)
    narrow = {id(quantizer_of(step)) for step in steps if step.name in set(four)}
    for step in steps:
        quantizer_of(step).set_bits(4 if id(quantizer_of(step)) in narrow else 8)


def four_bit_layers(plan: Plan) -> list[str]:
    """Names of the layers whose weights have 4 bits, in execution order."""
    return [step.name for step in weighted_steps(plan) if quantizer_of(step).bits == 4]


def _near(pattern: str, names: Sequence[str]) -> str:
    modules = {".".join(parts[:i]) for name in names for parts in [name.split(".")] for i in range(1, len(parts) + 1)}
    close = nearest(pattern, sorted(modules), n=3)
    return f"did you mean {' or '.join(map(repr, close))}?" if close else f"layers are e.g. {', '.join(names[:3])}"
