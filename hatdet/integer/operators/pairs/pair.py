"""What operators on pairs of codes have in common: two maps of one shape, or with sizes of 1 that stand for all."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hatdet.integer.operators.base import Kernel, Machine, Settings, TwoInputs
from hatdet.integer.operators.lookups import pair_kernel
from hatdet.integer.profile import Profile
from hatdet.integer.tensors import QuantParams, Shape


class PairOp(TwoInputs):
    """``verb``: what is done with the two, for messages."""

    verb: ClassVar[str]

    @classmethod
    def shape_of(cls, shapes: Sequence[Shape], settings: Settings) -> Shape:
        if (shape := joint_shape(*shapes)) is None:
            raise ValueError(
                f"cannot {cls.verb} tensors of shapes {shapes[0]} and {shapes[1]}; use equal shapes, or sizes of 1, "
                "which stand for all channels, rows or columns"
            )
        return shape

    def check(self, shapes: Sequence[Shape]) -> None:
        if joint_shape(*shapes) is None:
            raise self.refusal(f"maps of shapes {shapes[0]} and {shapes[1]}", "equal sizes, and sizes of 1")


class TableOp(PairOp):
    """A pair whose result is looked up."""

    @abstractmethod
    def table(self, profile: Profile, q1: QuantParams, q2: QuantParams, y: QuantParams) -> NDArray[np.int8]:
        """The results of all pairs of codes in an arithmetic: entry [q1 + 128, q2 + 128]. Shape (256, 256)."""

    def make_kernel(self, machine: Machine) -> Kernel:
        q1, q2, y = (machine.qparams(name) for name in (self.input1, self.input2, self.output))
        table = machine.table(self.table(machine.profile, q1, q2, y), y.zero_point)
        z1, z2 = machine.offset(self.input1), machine.offset(self.input2)
        return pair_kernel(table, z1, z2, machine.native)


def joint_shape(first: Sequence[int], second: Sequence[int]) -> Any:
    """The sizes of what two tensors give together; a size of 1 stands for all. None: they do not go together."""
    if len(first) != len(second) or any(a != b and 1 not in (a, b) for a, b in zip(first, second, strict=True)):
        return None
    return tuple(max(a, b) for a, b in zip(first, second, strict=True))
