"""The larger of two values."""

from __future__ import annotations

import torch
from torch import nn

from hatdet.integer.operators.pairs.maximum import MaximumOp
from hatdet.quantization.operators.pairs.extremes import ExtremeForm
from hatdet.quantization.operators.pointwise.limits import limit_module


class Maximum(ExtremeForm):
    op = MaximumOp
    functions = (torch.maximum,)
    calls = frozenset(["maximum", "max", "fmax"])
    word = "a maximum"

    def limit(self, value: float) -> nn.Module:
        return limit_module(value, None)
