"""What sums and differences have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from hatdet.integer.agreement.together import Together
from hatdet.integer.arithmetic import LARGEST_MULTIPLIER
from hatdet.integer.kernels import lookup_pairs
from hatdet.integer.operators.base import Operator
from hatdet.integer.profile import Profile
from hatdet.integer.tensors import QuantParams, TensorInfo
from hatdet.quantization.operators.base import Arrays, Run, Scales, Step
from hatdet.quantization.operators.pairs.pair import PairForm, as_input
from hatdet.quantization.operators.pointwise.limits import activation_of, limited_range
from hatdet.quantization.tracing.applied import Applied, fixed
from hatdet.quantization.tracing.rewriting.constants import affine, number


class LimitedSum(nn.Module):
    """A sum or difference and the limits after it, as one operator."""

    def __init__(self, act: nn.Module) -> None:
        super().__init__()
        self.act = act


class IntegerSum(torch.autograd.Function):
    """Sum or difference of centred codes through the table of the integer operator; ``factors`` are S1 / Sy and
    S2 / Sy with its sign, ``limits`` those of the centred output codes."""

    @staticmethod
    def forward(
        ctx: Any, x1: Tensor, x2: Tensor, table: Tensor, zeros: tuple[int, int], factors: Any, limits: Any
    ) -> Tensor:
        y = lookup_pairs(x1, x2, table, *zeros)
        ctx.save_for_backward(y)
        ctx.factors, ctx.limits, ctx.shapes = factors, limits, (x1.shape, x2.shape)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        (y,) = ctx.saved_tensors
        g = torch.ops.aten.hardtanh_backward(grad, y, *ctx.limits)
        g1, g2 = (as_input(g, shape) * factor for shape, factor in zip(ctx.shapes, ctx.factors, strict=True))
        return g1, g2, None, None, None, None


class SumForm(PairForm):
    """``sign``: of the second input."""

    sign: ClassVar[int]

    def with_constant(self, applied: Applied, values: dict[str, Any], constant: str) -> nn.Module:
        signs = {"input": 1.0, "other": self.sign * fixed(values.get("alpha", 1), self.word)}
        offset = number(applied, values.get(constant), self.word) * signs.pop(constant)
        (factor,) = signs.values()
        return affine(applied, factor, offset, self.word)

    def settings(self, module: nn.Module | None) -> dict[str, Any]:
        return {"activation": activation_of(module.act) if isinstance(module, LimitedSum) else "none"}

    def least_scale(self, step: Step, scales: Scales) -> float:
        return max((scales.of(name) for name in scales.others(step)), default=0.0) / LARGEST_MULTIPLIER

    def both_agree(self, step: Step, scales: Scales, together: Together) -> bool:
        q1, q2, y = (scales.params(name) for name in (*step.inputs, step.output))
        limits = together.limits_agree(step.arguments["activation"], y)
        return limits and together.sums_agree(q1, q2, y, self.sign)

    def run(self, run: Run) -> Tensor:
        (p1, p2), py, activation = run.x, run.y, run.step.arguments["activation"]
        x1, x2 = run.inputs
        if run.observing:
            with torch.no_grad():
                low, high = torch.aminmax(torch.add(x1 * p1.scale, x2, alpha=self.sign * p2.scale))
                run.observe(*limited_range(float(low), float(high), activation))
        lo, hi = run.profile.limits(activation, py)
        table = run.kept(lambda: centred_table(run.profile, p1, p2, py, lo, hi, self.sign).to(x1.device))
        factors, zeros = (p1.scale / py.scale, self.sign * p2.scale / py.scale), (p1.zero_point, p2.zero_point)
        return IntegerSum.apply(x1, x2, table, zeros, factors, (lo - py.zero_point, hi - py.zero_point))

    def lower(
        self, step: Step, inputs: Sequence[TensorInfo], output: TensorInfo, arrays: Arrays, profile: Profile
    ) -> Operator:
        activation, q = step.arguments["activation"], output.qparams
        limits = profile.limits(activation, q)
        make: Any = self.op
        made: Operator = make(step.name, inputs[0].name, inputs[1].name, output.name, activation, *limits)
        return made


def centred_table(
    profile: Profile, p1: QuantParams, p2: QuantParams, py: QuantParams, lo: int, hi: int, sign: int
) -> Tensor:
    """The 65 536 results of the integer operator as centred codes, float32."""
    table = profile.add(p1, p2, py, lo, hi, sign)
    return torch.from_numpy(table.reshape(-1).astype(np.float32) - py.zero_point)
