"""Operators that are left in float."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hatdet.integer.operators.base import Kernel, Machine, ManyInputs


@dataclass(frozen=True, eq=False)
class FloatOp(ManyInputs):
    """An operator that ``keep_float`` leaves in float: real inputs, real output, ``Operator.real`` of its kind.

    A graph with such islands can be evaluated, not exported.
    """

    kind: ClassVar[str] = "float"
    wide_output: ClassVar[bool] = True
    name: str
    function: str  # the kind: conv, add, mul, activation, ...
    input_names: tuple[str, ...]
    output: str
    arguments: dict[str, Any]
    weight: NDArray[np.float32] | None = None
    bias: NDArray[np.float32] | None = None

    def make_kernel(self, machine: Machine) -> Kernel:
        """It has no codes of its own: ``islands.IslandExecutor`` runs it."""
        raise TypeError(f"operator {self.name!r} is kept in float: run the graph with islands.executor_for(graph)")
