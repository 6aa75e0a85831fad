"""Activations that are operators of their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from hatdet.integer.operators.base import Kernel, Machine, OneInput, RealFunction, Settings
from hatdet.integer.operators.lookups import table_kernel

REAL: dict[str, Callable[[Tensor], Tensor]] = {
    "hardsigmoid": F.hardsigmoid,
    "hardswish": F.hardswish,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "tanh": torch.tanh,
}


@dataclass(frozen=True)
class ActivationOp(OneInput):
    """An activation of its own, ``function`` of ``activation_codes.FUNCTIONS``: ``Profile.activation``.

    The output of sigmoid, hardsigmoid and tanh has the quantization of ``activation_codes.FIXED_OUTPUTS``.
    """

    kind: ClassVar[str] = "activation"
    channelwise: ClassVar[bool] = True
    setting_names: ClassVar[tuple[str, ...]] = ("function",)
    function: str

    @classmethod
    def real(cls, settings: Settings) -> RealFunction:
        function = REAL[settings["function"]]
        return lambda x, w, b: function(x[0])

    def make_kernel(self, machine: Machine) -> Kernel:
        px, py = machine.qparams(self.input), machine.qparams(self.output)
        table = machine.table(machine.profile.activation(self.function, px, py), py.zero_point)
        offset = machine.offset(self.input)
        return table_kernel(table, offset, machine.native)
