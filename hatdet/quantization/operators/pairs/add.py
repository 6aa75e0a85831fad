"""Sums."""

from __future__ import annotations

import operator
from typing import cast

from torch import Tensor

from hatdet.integer.operators.pairs.add import AddOp
from hatdet.quantization.operators.pairs.sums import LimitedSum, SumForm


class AddActivation(LimitedSum):
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return cast(Tensor, self.act(a + b))


class Add(SumForm):
    op = AddOp
    modules = (AddActivation,)
    functions = (operator.add,)
    limited = AddActivation
    calls = frozenset(["add"])
    word, sign = "an addition", 1
