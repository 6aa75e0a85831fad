"""The larger of two values."""

from __future__ import annotations

import torch

from hatdet.integer.operators.pairs.maximum import MaximumOp
from hatdet.quantization.operators.pairs.extremes import ExtremeForm


class Maximum(ExtremeForm):
    op = MaximumOp
    functions = (torch.maximum,)
    calls = frozenset(["maximum", "max", "fmax"])
    word = "a maximum"
