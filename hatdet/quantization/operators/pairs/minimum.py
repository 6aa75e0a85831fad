"""The smaller of two values."""

from __future__ import annotations

import torch

from hatdet.integer.operators.pairs.minimum import MinimumOp
from hatdet.quantization.operators.pairs.extremes import ExtremeForm


class Minimum(ExtremeForm):
    op = MinimumOp
    functions = (torch.minimum,)
    calls = frozenset(["minimum", "min", "fmin"])
    word = "a minimum"
