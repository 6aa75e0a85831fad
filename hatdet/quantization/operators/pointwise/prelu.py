"""ReLU with a slope that is learned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hatdet.integer.kernels import lookup
from hatdet.integer.operators.base import Operator
from hatdet.integer.operators.pointwise.prelu import PreluOp
from hatdet.integer.profile import Profile
from hatdet.integer.tensors import TensorInfo
from hatdet.quantization.operators.base import Arrays, Form, Run, Scales, Step, on_device
from hatdet.quantization.qat.fake_quant import QuantizedWeight, WeightFakeQuantize
from hatdet.quantization.tracing.applied import Applied
from hatdet.quantization.tracing.refusals import NoModule

_LARGEST_RATIO = 2.0**15
"""Of the input's scale (times the slopes') to the output's: 255 * 255 times that fits int32."""


class Slopes(QuantizedWeight):
    """``nn.PReLU`` with slopes that are quantized, with one scale for all; ``weight`` is the same parameter."""

    def __init__(self, weight: nn.Parameter) -> None:
        super().__init__()
        self.weight = weight
        self.weight_fake_quant = WeightFakeQuantize()
        self.weight_fake_quant.allocate(1, weight.device)
        self.weight_fake_quant.enable_fake_quant(False)  # as tracing compares it, real

    def observe_weight(self) -> None:
        self.weight_fake_quant.observe(self.weight.view(1, -1), None)

    def codes(self) -> Tensor:
        """The integer slopes as float32."""
        return self.weight_fake_quant.codes(self.weight.view(1, -1)).flatten()

    @property
    def scale(self) -> float:
        return float(self.weight_fake_quant.scale)

    def forward(self, x: Tensor) -> Tensor:
        if self.training or not bool(self.weight_fake_quant.fake_quant_enabled[0]):
            self.observe_weight()
        return F.prelu(x, self.weight_fake_quant(self.weight.view(1, -1)).flatten())


class IntegerPrelu(torch.autograd.Function):
    """Centred codes through the table of the integer operator, (n, 256) for n slopes. ``slopes`` and ``falls``, shaped
    alike, are the derivatives of the output code by the input code and by the real slope."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, table: Tensor, slopes: Tensor, falls: Tensor, zero: int) -> Tensor:
        ctx.save_for_backward(x, slopes, falls)
        ctx.zero = zero
        return lookup(x, table.view(-1), zero)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, slopes, falls = ctx.saved_tensors
        by_weight = (grad * lookup(x, falls.view(-1), ctx.zero)).sum((0, 2, 3))
        by_weight = by_weight if len(falls) > 1 else by_weight.sum(0, keepdim=True)
        return grad * lookup(x, slopes.view(-1), ctx.zero), by_weight, None, None, None, None


def _prelu(applied: Applied) -> nn.Module:
    """A parameter goes on learning; another tensor is a constant."""
    weight = applied.arguments("weight")["weight"]
    if isinstance(weight, nn.Parameter):
        return Slopes(weight)
    if not isinstance(weight, Tensor):
        raise NoModule("prelu with slopes that are computed in each call", "use a parameter, or nn.PReLU")
    return Slopes(nn.Parameter(weight.detach(), requires_grad=False))


class Prelu(Form):
    op = PreluOp
    modules = (Slopes,)
    spelled = (nn.PReLU,)
    makers = {"prelu": _prelu}

    def check(self, module: nn.Module) -> None:
        if isinstance(module, nn.PReLU) and not isinstance(module.weight, nn.Parameter):
            instead = "remove the parametrization from the trained model first"
            raise NoModule("PReLU whose slopes are computed in each call", instead)

    def canonical(self, module: nn.Module) -> list[tuple[str, nn.Module]]:
        return [("", Slopes(module.weight) if isinstance(module, nn.PReLU) else module)]

    def parameters(self, module: nn.Module | None) -> tuple[Tensor | None, Tensor | None]:
        assert isinstance(module, Slopes)
        return module.weight, None

    def least_scale(self, step: Step, scales: Scales) -> float:
        assert isinstance(step.module, Slopes)
        if not scales.others(step):
            return 0.0
        return scales.of(step.inputs[0]) * max(1.0, step.module.scale) / _LARGEST_RATIO * (1.0 + 2.0**-20)

    def agree(self, step: Step, scales: Scales) -> None:
        assert isinstance(step.module, Slopes)
        sx, sy = scales.of(step.inputs[0]), scales.of(step.output)
        shared = not scales.others(step)
        scales.lift(step.output, scales.profile.prelu_scale(sx, step.module.scale, sy, shared))

    def run(self, run: Run) -> Tensor:
        (x,), (px,), py, module = run.inputs, run.x, run.y, run.step.module
        assert isinstance(module, Slopes)
        if run.observing:
            module.observe_weight()
        with torch.no_grad():
            codes = module.codes()
            if run.observing:
                low, high = torch.aminmax(torch.where(x >= 0, x, x * (codes * module.scale).view(1, -1, 1, 1)))
                run.observe(float(low) * px.scale, float(high) * px.scale)
            alpha = codes.cpu().numpy()
            table = run.profile.prelu(px, py, alpha, module.scale)
            centred = np.arange(-128.0, 128.0) - px.zero_point
            ratio = px.scale / py.scale
            slopes = np.where(centred >= 0, 1.0, alpha[:, None] * module.scale) * ratio
            real = slopes * centred + py.zero_point
            inside = (real > -128.5) & (real < 127.5)
            slopes = slopes * inside
            falls = np.where(centred >= 0, 0.0, centred) * ratio * inside
            if not bool(module.weight_fake_quant.observer_enabled[0]):
                falls = falls * (module.weight.abs() <= 127.5 * module.scale).cpu().numpy()[:, None]
            tables = [on_device(t, x) for t in (table.astype(np.float32) - py.zero_point, slopes, falls)]
        return IntegerPrelu.apply(x, module.weight, *tables, px.zero_point)

    def lower(
        self, step: Step, inputs: Sequence[TensorInfo], output: TensorInfo, arrays: Arrays, profile: Profile
    ) -> Operator:
        assert isinstance(step.module, Slopes)
        alpha = step.module.codes().cpu().numpy().astype(np.int8)
        return PreluOp(step.name, inputs[0].name, output.name, alpha, step.module.scale)
