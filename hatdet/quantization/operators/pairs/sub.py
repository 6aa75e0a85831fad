"""Differences."""

from __future__ import annotations

import operator
from typing import Any, cast

from torch import Tensor

from hatdet.integer.operators.pairs.sub import SubOp
from hatdet.quantization.operators.pairs.sums import LimitedSum, SumForm
from hatdet.quantization.tracing.recorded import Call


class SubActivation(LimitedSum):
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return cast(Tensor, self.act(a - b))


class Sub(SumForm):
    op = SubOp
    modules = (SubActivation,)
    functions = (operator.sub,)
    limited = SubActivation
    calls = frozenset(["sub", "subtract", "rsub"])
    word, sign = "a difference", -1

    def values(self, call: Call) -> dict[str, Any]:
        values = super().values(call)
        if call.op == "rsub":  # other - input
            values["input"], values["other"] = values["other"], values["input"]
        return values
