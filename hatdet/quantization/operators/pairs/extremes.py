"""What minima and maxima have in common."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from hatdet.quantization.operators.base import Run
from hatdet.quantization.operators.pairs.pair import PairForm
from hatdet.quantization.tracing.applied import Applied
from hatdet.quantization.tracing.refusals import NoModule
from hatdet.quantization.tracing.rewriting.constants import number


class ExtremeForm(PairForm):
    """All three values have one quantization, so codes are compared; a tie's gradient goes to both by halves."""

    def with_constant(self, applied: Applied, values: dict[str, Any], constant: str) -> nn.Module:
        """A limit. Of one tensor these names mean the extreme over positions or channels."""
        if values.get("dim") is not None or not isinstance(values.get(constant), (Tensor, float)):
            raise NoModule(f"{self.word} over a dimension", "take it of two maps, or use MaxPool2d")
        limit = number(applied, values[constant], self.word)
        if limit.dim():
            raise NoModule(f"{self.word} with a tensor of limits", "use the same number for all channels")
        return self.limit(float(limit))

    @abstractmethod
    def limit(self, value: float) -> nn.Module:
        """The module that gives the extreme of a map and a number."""

    def run(self, run: Run) -> Tensor:
        y: Tensor = self.functions[0](*run.inputs)
        return y.contiguous(memory_format=torch.channels_last)
