"""Functions of one code that runtimes have no common kernel for: by a table that is stored with the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from hatdet.integer.arithmetic import INT8_MAX, INT8_MIN, round_half_away
from hatdet.integer.operators.base import Kernel, Machine, OneInput, RealFunction, Settings
from hatdet.integer.operators.lookups import table_kernel
from hatdet.integer.tensors import QuantParams, Shape

FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "abs": torch.abs,
    "celu": F.celu,
    "clamp": torch.clamp,
    "cos": torch.cos,
    "elu": F.elu,
    "erf": torch.erf,
    "exp": torch.exp,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "hardshrink": F.hardshrink,
    "logsigmoid": F.logsigmoid,
    "mish": F.mish,
    "pow": lambda x, exponent: torch.pow(x, int(exponent)),
    "selu": F.selu,
    "sin": torch.sin,
    "softplus": F.softplus,
    "softshrink": F.softshrink,
    "softsign": F.softsign,
    "square": torch.square,
    "tanhshrink": F.tanhshrink,
    "threshold": F.threshold,
}
"""The real functions, of the input and their own numbers."""


@dataclass(frozen=True, eq=False)
class FunctionOp(OneInput):
    """``function`` with its ``numbers``: y = table[x + 128], the real function rounded once (:func:`function_table`).

    The table is what every runtime computes with, so no two can differ.
    """

    kind: ClassVar[str] = "function"
    channelwise: ClassVar[bool] = True
    setting_names: ClassVar[tuple[str, ...]] = ("function", "numbers")
    function: str  # one of FUNCTIONS
    numbers: tuple[float, ...]
    table: NDArray[np.int8]  # (256,)

    @classmethod
    def real(cls, settings: Settings) -> RealFunction:
        function, numbers = FUNCTIONS[settings["function"]], settings["numbers"]
        return lambda x, w, b: function(x[0], *numbers)

    def make_kernel(self, machine: Machine) -> Kernel:
        table, offset = machine.table(self.table, machine.qparams(self.output).zero_point), machine.offset(self.input)
        return table_kernel(table, offset, machine.native)

    def check(self, shapes: Sequence[Shape]) -> None:
        if self.function not in FUNCTIONS:
            raise self.refusal(f"the function {self.function!r}", ", ".join(FUNCTIONS))
        if self.table.shape != (256,) or self.table.dtype != np.int8:
            raise self.refusal(f"a table of {self.table.shape} {self.table.dtype}", "(256,) int8")

    @property
    def stored(self) -> tuple[NDArray[Any], ...]:
        return (self.table,)


def real_values(function: str, numbers: Sequence[float], x: NDArray[np.float64]) -> tuple[NDArray[Any], NDArray[Any]]:
    """The real function and its derivative at ``x``, float64."""
    point = torch.from_numpy(np.asarray(x, np.float64)).requires_grad_()
    with torch.enable_grad():
        value = FUNCTIONS[function](point, *numbers)
        (slope,) = torch.autograd.grad(value.sum(), point)
    return value.detach().numpy(), slope.numpy()


def function_table(values: NDArray[np.float64], y: QuantParams) -> NDArray[np.int8]:
    """clamp(round(f(Sx (q - Zx)) / Sy) + Zy) for real values of f, ties away from zero; float64. Shape (256,)."""
    codes = round_half_away(values / np.float64(y.scale)) + y.zero_point
    return np.clip(codes, INT8_MIN, INT8_MAX).astype(np.int8)
