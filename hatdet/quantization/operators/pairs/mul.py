"""Products."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from hatdet.integer.agreement.together import Together
from hatdet.integer.arithmetic import LARGEST_MULTIPLIER
from hatdet.integer.operators.base import Operator
from hatdet.integer.operators.pairs.mul import MulOp
from hatdet.integer.profile import Profile, Requantizer
from hatdet.integer.tensors import TensorInfo
from hatdet.quantization.operators.base import Arrays, Run, Scales, Step
from hatdet.quantization.operators.pairs.pair import PairForm, as_input
from hatdet.quantization.tracing.applied import Applied
from hatdet.quantization.tracing.recorded import Input
from hatdet.quantization.tracing.refusals import NoModule
from hatdet.quantization.tracing.rewriting.constants import affine, number


class IntegerMul(torch.autograd.Function):
    """Product of centred codes; ``factor`` is S1 * S2 / Sy."""

    @staticmethod
    def forward(
        ctx: Any, x1: Tensor, x2: Tensor, requantization: Requantizer, factor: float, lo: int, hi: int
    ) -> Tensor:
        product = (x1 * x2).contiguous(memory_format=torch.channels_last)  # at most 255 * 255: exact
        y = requantization.centred(product, lo, hi)
        ctx.save_for_backward(x1, x2, y)
        ctx.factor, ctx.limits = factor, (lo, hi)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x1, x2, y = ctx.saved_tensors
        g = torch.ops.aten.hardtanh_backward(grad, y, *ctx.limits) * ctx.factor
        return as_input(g * x2, x1.shape), as_input(g * x1, x2.shape), None, None, None, None


class Square(nn.Module):
    """A map times itself."""

    def forward(self, x: Tensor) -> Tensor:
        return x * x


def _quotient(applied: Applied) -> nn.Module:
    a = applied.arguments("other")
    if not applied.call.args or not isinstance(applied.call.args[0], Input) or isinstance(a.get("other"), Input):
        raise NoModule("a division by a map", "multiply by a map instead, a Sigmoid's for example")
    if a.get("rounding_mode"):
        raise NoModule(f"a division with rounding_mode={a['rounding_mode']!r}", "leave it out")
    return affine(applied, 1.0 / number(applied, a.get("other"), "a division"), 0.0, "a division")


class Mul(PairForm):
    op = MulOp
    modules = (Square,)
    functions = (operator.mul,)
    calls = frozenset(["mul", "multiply"])
    makers = {
        "square": lambda _: Square(),
        **dict.fromkeys(("div", "divide", "true_divide"), _quotient),
        **dict.fromkeys(("neg", "negative"), lambda applied: affine(applied, -1.0, 0.0, "a negation")),
    }
    word = "a product"

    def with_constant(self, applied: Applied, values: dict[str, Any], constant: str) -> nn.Module:
        return affine(applied, number(applied, values.get(constant), self.word), 0.0, self.word)

    def inputs(self, node: fx.Node) -> tuple[fx.Node, ...]:
        inputs = super().inputs(node)
        return inputs * 2 if len(inputs) == 1 else inputs

    def factors(self, step: Step) -> tuple[str, ...]:
        return step.inputs

    def least_scale(self, step: Step, scales: Scales) -> float:
        if len(scales.others(step)) < 2:
            return 0.0  # raising one would raise the other
        return scales.of(step.inputs[0]) * scales.of(step.inputs[1]) / LARGEST_MULTIPLIER

    def agree(self, step: Step, scales: Scales) -> None:
        if step.inputs[0] == step.inputs[1]:
            x, y = (scales.of(name) for name in (step.inputs[0], step.output))
            scales.lift(step.output, scales.profile.square_scale(x, y))

    def both_agree(self, step: Step, scales: Scales, together: Together) -> bool:
        first, second, y = (scales.of(name) for name in (*step.inputs, step.output))
        square = step.inputs[0] == step.inputs[1]
        return together.products_agree(first, second, y) and (not square or together.squares_settled(first, y))

    def agreeing_scales(self, step: Step, name: str, scales: Scales, together: Together) -> Iterable[float]:
        first, second, y = (scales.of(n) for n in (*step.inputs, step.output))
        if name == step.output:
            return together.product_scales(first, second, y)
        return together.factor_scales(scales.of(name), second if name == step.inputs[0] else first, y)

    def instead(self, step: Step) -> str:
        return "give the product a scale of its own: no pooling, concatenation or maximum of it with one of its factors"

    def run(self, run: Run) -> Tensor:
        (p1, p2), py = run.x, run.y
        large, small = run.inputs if run.inputs[0].numel() >= run.inputs[1].numel() else run.inputs[::-1]
        if run.observing:
            with torch.no_grad():
                low, high = torch.aminmax(large * small)
                factor = p1.scale * p2.scale
                run.observe(float(low) * factor, float(high) * factor)
        channels = max(large.shape[1], small.shape[1])
        requantization = run.profile.products(p1.scale, p2.scale, py.scale, channels, large.device)
        limits: Any = (-128 - py.zero_point, 127 - py.zero_point)
        return IntegerMul.apply(large, small, requantization, p1.scale * p2.scale / py.scale, *limits)

    def lower(
        self, step: Step, inputs: Sequence[TensorInfo], output: TensorInfo, arrays: Arrays, profile: Profile
    ) -> Operator:
        large, small = sorted(inputs, key=lambda t: -t.shape[1] * t.shape[2])
        return MulOp(step.name, large.name, small.name, output.name)
