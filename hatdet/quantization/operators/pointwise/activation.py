"""Activations that are operators of their own (a hardsigmoid where no convolution takes it in)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from hatdet.integer.agreement.together import Together
from hatdet.integer.arithmetic import LARGEST_MULTIPLIER
from hatdet.integer.operators.pointwise.activation import ActivationOp
from hatdet.integer.operators.pointwise.activation_codes import (
    FIXED_OUTPUTS,
    UNIT_INTERVAL,
    real_function,
)
from hatdet.integer.tensors import QuantParams
from hatdet.quantization.operators.base import Form, Run, Scales, Step
from hatdet.quantization.operators.pointwise.lookup import real_inputs, run_lookup

OWN_ACTIVATIONS: dict[type[nn.Module], str] = {
    nn.Hardswish: "hardswish",
    nn.SiLU: "silu",
    nn.Sigmoid: "sigmoid",
    nn.Hardsigmoid: "hardsigmoid",
    nn.Tanh: "tanh",
}


class Activation(Form):
    op = ActivationOp
    modules = tuple(OWN_ACTIVATIONS)
    makers = {
        "sigmoid": lambda _: nn.Sigmoid(),
        "special_expit": lambda _: nn.Sigmoid(),
        "hardsigmoid": lambda _: nn.Hardsigmoid(),
        "hardswish": lambda _: nn.Hardswish(),
        "silu": lambda _: nn.SiLU(),
        "tanh": lambda _: nn.Tanh(),
    }

    def settings(self, module: nn.Module | None) -> dict[str, Any]:
        return {"function": OWN_ACTIVATIONS[type(module)]}  # type: ignore[index]

    def fixed_output(self, module: nn.Module | None) -> QuantParams | None:
        return FIXED_OUTPUTS.get(self.settings(module)["function"])

    def refuses_fixed(self, module: nn.Module | None) -> bool:
        """A sigmoid or tanh (and the gate of a SiLU) that reads such a one's needs another scale: on that one the
        runtimes' kernels may differ in their rounding, and it cannot be moved."""
        return isinstance(module, (nn.Sigmoid, nn.SiLU, nn.Tanh))

    def gate_inside(self, module: nn.Module | None) -> bool:
        return isinstance(module, nn.SiLU)

    def factors(self, step: Step) -> tuple[str, ...]:
        return (step.inputs[0], "") if step.arguments["function"] == "silu" else ()

    def least_scale(self, step: Step, scales: Scales) -> float:
        if not scales.others(step):
            return 0.0  # raising one would raise the other
        if factors := self.factors(step):
            return scales.of(factors[0]) * scales.of(factors[1]) / LARGEST_MULTIPLIER
        return scales.of(step.inputs[0]) / 120.0 if step.arguments["function"] == "hardswish" else 0.0

    def agree(self, step: Step, scales: Scales) -> None:
        name, function = step.inputs[0], step.arguments["function"]
        if function == "hardswish":  # the kernel's exponents end where x is 2**9 times finer
            scales.lift(name, scales.of(step.output) / 256.0)
        if not scales.fixed(name):
            x, y = (QuantParams(scales.of(n), scales.zero(n)) for n in (name, step.output))
            scales.lift(name, scales.profile.activation_scale(function, x, y))

    def instead(self, step: Step) -> str:
        others = {"hardswish": "relu6 or silu", "silu": "relu6 or hardswish"}
        return f"use {others.get(step.arguments['function'], 'hardsigmoid')} instead"

    def both_agree(self, step: Step, scales: Scales, together: Together) -> bool:
        if step.arguments["function"] != "silu":
            return True
        return together.products_agree(scales.of(step.inputs[0]), UNIT_INTERVAL.scale, scales.of(step.output))

    def both_read(self, step: Step, scales: Scales, together: Together) -> bool:
        x, y, function = scales.params(step.inputs[0]), scales.params(step.output), step.arguments["function"]
        if function == "silu":  # the product is its output's concern
            function, y = "sigmoid", UNIT_INTERVAL
        return together.activations_agree(function, x, y)

    def agreeing_scales(self, step: Step, name: str, scales: Scales, together: Together) -> Iterable[float]:
        if step.arguments["function"] != "silu":
            return ()
        x, y = scales.of(step.inputs[0]), scales.of(step.output)
        if name == step.output:
            return together.product_scales(x, UNIT_INTERVAL.scale, y)
        return together.factor_scales(x, UNIT_INTERVAL.scale, y)

    def run(self, run: Run) -> Tensor:
        function = run.step.arguments["function"]
        codes, real = run.kept(
            lambda: (run.profile.activation(function, run.x[0], run.y), real_function(function, real_inputs(run)))
        )
        return run_lookup(run, codes, *real)
