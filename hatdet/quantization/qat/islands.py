"""``keep_float``: layers of the quantized network that run in float, between a dequantization and a quantization.

They are for finding out which layers cost accuracy, and what it would be worth to keep them float. The ranges of
their outputs are still observed, because an integer layer that reads one needs its scale.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.ao.quantization.fake_quantize import FakeQuantizeBase

from hatdet.integer.islands import quantize_real
from hatdet.integer.operators.island import FloatOp
from hatdet.integer.operators.table import OP_TYPES
from hatdet.integer.tensors import QuantParams
from hatdet.quantization.operators.table import FORMS
from hatdet.quantization.qat.fake_quant import QuantizedWeight
from hatdet.quantization.qat.fx_adapter import Plan, Step
from hatdet.utils.errors import UserError, nearest


def matching_steps(names: Collection[str], pattern: str) -> set[str]:
    """The layers that a pattern means: that very name, everything inside that module, or a match of ``*`` and ``?``."""
    return {n for n in names if n == pattern or n.startswith(f"{pattern}.") or fnmatchcase(n, pattern)}


def resolve_islands(plan: Plan, keep_float: Sequence[str]) -> frozenset[str]:
    """Outputs of the steps that ``keep_float`` names.

    Args:
        keep_float: module paths (a module means all layers inside it), with ``*`` and ``?`` as in file names.

    Raises:
        UserError: a name that means no layer (the nearest ones are given), or a layer that cannot be float.
    """
    names = {step.name for step in plan.steps}
    chosen: set[str] = set()
    for pattern in keep_float:
        found = matching_steps(names, pattern)
        if not found:
            parts = [name.split(".") for name in names]
            modules = {".".join(p[:i]) for p in parts for i in range(1, len(p) + 1)}
            close = nearest(pattern, sorted(modules), n=3)
            hint = f"did you mean {' or '.join(map(repr, close))}?" if close else f"layers are e.g. {_examples(plan)}"
            raise UserError(f"keep_float: no layer is named {pattern!r}; {hint}")
        chosen |= found
    steps = [step for step in plan.steps if step.name in chosen]
    for step in steps:
        try:
            step_function(step)
        except KeyError as error:
            raise UserError(
                f"keep_float: {step.name} ({step.kind}) cannot be kept in float; "
                "name a layer with weights or an activation before or after it"
            ) from error
    return frozenset(step.output for step in steps)


def _examples(plan: Plan) -> str:
    return ", ".join(step.name for step in plan.steps[:3])


def step_function(step: Step) -> Any:
    """The real function of a step, of (inputs, weight, bias)."""
    return OP_TYPES[step.kind].real(step.arguments)


def float_operator(step: Step, inputs: Sequence[str], output: str) -> FloatOp:
    """A step as a float operator of the integer graph, with the weights as they are before quantization."""
    weight, bias = (_array(v) for v in FORMS[step.kind].parameters(step.module))
    return FloatOp(step.name, step.kind, tuple(inputs), output, step.arguments, weight, bias)


def _array(value: Tensor | None) -> Any:
    return None if value is None else np.ascontiguousarray(value.detach().cpu().numpy().astype(np.float32))


def run_float(step: Step, inputs: list[Tensor]) -> Tensor:
    """A step in float, with gradients for inputs, weight and bias."""
    y: Tensor = step_function(step)(inputs, *FORMS[step.kind].parameters(step.module))
    return y


def island_quantizers(plan: Plan, islands: Collection[str]) -> list[FakeQuantizeBase]:
    """What torch.ao's forward must not quantize: the islands' weights, and values that no integer step has part in."""
    if not islands:
        return []
    used = {id(plan.quantizers[s.output]) for s in plan.steps if s.output not in islands}
    used |= {id(plan.quantizers[n]) for s in plan.steps if s.output not in islands for n in s.inputs}
    found: list[FakeQuantizeBase] = []
    for step in plan.steps:
        if step.output in islands:
            if isinstance(step.module, QuantizedWeight):
                found.append(step.module.weight_fake_quant)
            if id(plan.quantizers[step.output]) not in used:
                found.append(plan.quantizers[step.output])
    return found


class QuantizeReal(torch.autograd.Function):
    """Real values -> centred codes; the gradient passes, but not where the code is clamped."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, params: QuantParams) -> Tensor:
        ctx.save_for_backward(x)
        ctx.params = params
        return quantize_real(x, params)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        p: QuantParams = ctx.params
        limits = (p.lowest - 0.5 - p.zero_point) * p.scale, (p.highest + 0.5 - p.zero_point) * p.scale
        return torch.ops.aten.hardtanh_backward(grad / p.scale, x, *limits), None
