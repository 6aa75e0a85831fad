"""The smaller of two values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from hatdet.integer.operators.base import Kernel, Machine, RealFunction, Settings
from hatdet.integer.operators.pairs.pair import PairOp


@dataclass(frozen=True)
class MinimumOp(PairOp):
    """Elementwise minimum of two tensors: the smaller code, because the quantization of all three is one."""

    kind: ClassVar[str] = "minimum"
    verb: ClassVar[str] = "compare"
    shares_scale: ClassVar[bool] = True

    @classmethod
    def real(cls, settings: Settings) -> RealFunction:
        return lambda x, w, b: torch.minimum(x[0], x[1])

    def make_kernel(self, machine: Machine) -> Kernel:
        return lambda x: torch.minimum(x[0], x[1]).contiguous(memory_format=torch.channels_last)
