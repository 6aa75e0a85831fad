"""The smaller of two values."""

from __future__ import annotations

import torch
from torch import nn

from hatdet.integer.operators.pairs.minimum import MinimumOp
from hatdet.quantization.operators.pairs.extremes import ExtremeForm
from hatdet.quantization.operators.pointwise.limits import limit_module


class Minimum(ExtremeForm):
    op = MinimumOp
    functions = (torch.minimum,)
    calls = frozenset(["minimum", "min", "fmin"])
    word = "a minimum"

    def limit(self, value: float) -> nn.Module:
        return limit_module(None, value)
