"""What minima and maxima have in common."""

from __future__ import annotations

import torch
from torch import Tensor, fx

from hatdet.quantization.operators.base import Run
from hatdet.quantization.operators.pairs.pair import PairForm
from hatdet.quantization.tracing.recorded import Call, Input
from hatdet.quantization.tracing.refusals import NoModule


class ExtremeForm(PairForm):
    """All three values have one quantization, so codes are compared; a tie's gradient goes to both by halves."""

    def rewrite(self, node: fx.Node, call: Call) -> None:
        if not isinstance(self.values(call).get("other"), (Input, Tensor)):  # of one tensor: over positions or channels
            raise NoModule(f"{self.word} over a dimension", "take it of two maps, or use MaxPool2d")
        super().rewrite(node, call)

    def run(self, run: Run) -> Tensor:
        y: Tensor = self.functions[0](*run.inputs)
        return y.contiguous(memory_format=torch.channels_last)
