"""Sums."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from hatdet.integer.arithmetic import LARGEST_MULTIPLIER, activation_limits
from hatdet.integer.kernels import lookup_pairs
from hatdet.integer.operators.base import Operator
from hatdet.integer.operators.pairs.add import AddOp, add_table
from hatdet.integer.tensors import QuantParams, TensorInfo
from hatdet.quantization.operators.base import Arrays, Run, Scales, Step
from hatdet.quantization.operators.pairs.pair import PairForm
from hatdet.quantization.operators.pointwise.limits import LIMITS, limited_range


class AddActivation(nn.Module):
    """An addition and the ReLU or ReLU6 after it, as one operator."""

    def __init__(self, act: nn.Module) -> None:
        super().__init__()
        self.act = act

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return cast(Tensor, self.act(a + b))


class IntegerAdd(torch.autograd.Function):
    """Sum of two tensors of centred codes through the table of the integer operator; ``factors`` are S1 / Sy, S2 / Sy,
    ``limits`` those of the centred output codes."""

    @staticmethod
    def forward(
        ctx: Any, x1: Tensor, x2: Tensor, table: Tensor, zeros: tuple[int, int], factors: Any, limits: Any
    ) -> Tensor:
        y = lookup_pairs(x1, x2, table, *zeros)
        ctx.save_for_backward(y)
        ctx.factors, ctx.limits = factors, limits
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        (y,) = ctx.saved_tensors
        g = torch.ops.aten.hardtanh_backward(grad, y, *ctx.limits)
        return g * ctx.factors[0], g * ctx.factors[1], None, None, None, None


class Add(PairForm):
    op = AddOp
    modules = (AddActivation,)
    functions = (operator.add,)
    calls = frozenset(["add"])
    word, allowed = "an addition", "equal shapes"

    def settings(self, module: nn.Module | None) -> dict[str, Any]:
        return {"activation": LIMITS[type(module.act)] if isinstance(module, AddActivation) else "none"}

    def least_scale(self, step: Step, scales: Scales) -> float:
        return max((scales.of(name) for name in scales.others(step)), default=0.0) / LARGEST_MULTIPLIER

    def run(self, run: Run) -> Tensor:
        (p1, p2), py, activation = run.x, run.y, run.step.arguments["activation"]
        x1, x2 = run.inputs
        if run.observing:
            with torch.no_grad():
                low, high = torch.aminmax(torch.add(x1 * p1.scale, x2, alpha=p2.scale))
                run.observe(*limited_range(float(low), float(high), activation))
        lo, hi = activation_limits(activation, py.scale, py.zero_point)
        key = (p1, p2, py, activation, str(x1.device))
        if key not in run.tables:
            if len(run.tables) > 256:
                run.tables.clear()
            run.tables[key] = centred_add_table(p1, p2, py, lo, hi).to(x1.device)
        factors, zeros = (p1.scale / py.scale, p2.scale / py.scale), (p1.zero_point, p2.zero_point)
        return IntegerAdd.apply(x1, x2, run.tables[key], zeros, factors, (lo - py.zero_point, hi - py.zero_point))

    def lower(self, step: Step, inputs: Sequence[TensorInfo], output: TensorInfo, arrays: Arrays) -> Operator:
        activation, q = step.arguments["activation"], output.qparams
        limits = activation_limits(activation, q.scale, q.zero_point)
        return AddOp(step.name, inputs[0].name, inputs[1].name, output.name, activation, *limits)


def centred_add_table(p1: QuantParams, p2: QuantParams, py: QuantParams, lo: int = -128, hi: int = 127) -> Tensor:
    """The integer ADD's 65 536 results as centred codes, float32."""
    table = add_table((p1.scale, p2.scale, py.scale), (p1.zero_point, p2.zero_point, py.zero_point), lo, hi)
    return torch.from_numpy(table.reshape(-1).astype(np.float32) - py.zero_point)
