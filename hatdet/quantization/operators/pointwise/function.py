"""Functions of one code without a kernel of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn

from hatdet.integer.operators.base import Operator
from hatdet.integer.operators.pointwise.function import FUNCTIONS, FunctionOp, function_table, real_values
from hatdet.integer.profile import Profile
from hatdet.integer.tensors import TensorInfo
from hatdet.quantization.operators.base import Arrays, Form, Run, Step
from hatdet.quantization.operators.pairs.mul import Square
from hatdet.quantization.operators.pointwise.lookup import real_inputs, run_lookup
from hatdet.quantization.tracing.applied import Applied, fixed
from hatdet.quantization.tracing.refusals import NoModule


class Function(nn.Module):
    """A function of :data:`FUNCTIONS` with its numbers, as a module."""

    def __init__(self, function: str, *numbers: float) -> None:
        super().__init__()
        self.function, self.numbers = function, tuple(float(n) for n in numbers)

    def forward(self, x: Tensor) -> Tensor:
        return FUNCTIONS[self.function](x, *self.numbers)


_OF_MODULE: dict[type[nn.Module], Callable[[Any], nn.Module]] = {
    nn.CELU: lambda m: Function("celu", m.alpha),
    nn.ELU: lambda m: Function("elu", m.alpha),
    nn.GELU: lambda m: Function("gelu_tanh" if m.approximate == "tanh" else "gelu"),
    nn.Hardshrink: lambda m: Function("hardshrink", m.lambd),
    nn.LogSigmoid: lambda m: Function("logsigmoid"),
    nn.Mish: lambda m: Function("mish"),
    nn.SELU: lambda m: Function("selu"),
    nn.Softplus: lambda m: Function("softplus", m.beta, m.threshold),
    nn.Softshrink: lambda m: Function("softshrink", m.lambd),
    nn.Softsign: lambda m: Function("softsign"),
    nn.Tanhshrink: lambda m: Function("tanhshrink"),
    nn.Threshold: lambda m: nn.ReLU() if m.threshold == m.value == 0 else Function("threshold", m.threshold, m.value),
}


def _maker(function: str, *arguments: tuple[str, float]) -> Callable[[Applied], nn.Module]:
    """Of a function with these arguments and their defaults."""

    def make(applied: Applied) -> nn.Module:
        given = applied.arguments(*(name for name, _ in arguments))
        return Function(function, *(fixed(given.get(name, default), function) for name, default in arguments))

    return make


def _gelu(applied: Applied) -> nn.Module:
    return _OF_MODULE[nn.GELU](nn.GELU(applied.arguments("approximate").get("approximate", "none")))


def _power(applied: Applied) -> nn.Module:
    exponent = fixed(applied.arguments("exponent")["exponent"], "a power")
    if not isinstance(exponent, (int, float)) or exponent != int(exponent) or exponent < 2:
        raise NoModule(f"a power of {exponent}", "use a whole exponent of 2 and up")
    return Square() if exponent == 2 else Function("pow", exponent)


class FunctionForm(Form):
    op = FunctionOp
    modules = (Function,)
    spelled = tuple(_OF_MODULE)
    makers = {
        "abs": _maker("abs"),
        "absolute": _maker("abs"),
        "celu": _maker("celu", ("alpha", 1.0)),
        "cos": _maker("cos"),
        "elu": _maker("elu", ("alpha", 1.0)),
        "erf": _maker("erf"),
        "exp": _maker("exp"),
        "gelu": _gelu,
        "hardshrink": _maker("hardshrink", ("lambd", 0.5)),
        "logsigmoid": _maker("logsigmoid"),
        "mish": _maker("mish"),
        "pow": _power,
        "selu": _maker("selu"),
        "sin": _maker("sin"),
        "softplus": _maker("softplus", ("beta", 1.0), ("threshold", 20.0)),
        "softshrink": _maker("softshrink", ("lambd", 0.5)),
        "softsign": _maker("softsign"),
        "tanhshrink": _maker("tanhshrink"),
    }

    def canonical(self, module: nn.Module) -> list[tuple[str, nn.Module]]:
        make = _OF_MODULE.get(type(module))
        return [("", make(module) if make is not None else module)]

    def settings(self, module: nn.Module | None) -> dict[str, Any]:
        assert isinstance(module, Function)
        return {"function": module.function, "numbers": module.numbers}

    def run(self, run: Run) -> Tensor:
        a = run.step.arguments
        values, slopes = real_values(a["function"], a["numbers"], real_inputs(run))
        return run_lookup(run, function_table(values, run.y), values, slopes)

    def lower(
        self, step: Step, inputs: Sequence[TensorInfo], output: TensorInfo, arrays: Arrays, profile: Profile
    ) -> Operator:
        function, numbers, q = step.arguments["function"], step.arguments["numbers"], inputs[0].qparams
        x = q.scale * (np.arange(-128.0, 128.0) - q.zero_point)
        table = function_table(real_values(function, numbers, x)[0], output.qparams)
        return FunctionOp(step.name, inputs[0].name, output.name, function, numbers, table)
