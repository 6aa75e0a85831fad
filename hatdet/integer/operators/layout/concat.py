"""Concatenation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from hatdet.integer.operators.base import Kernel, Machine, ManyInputs, RealFunction, Settings
from hatdet.integer.tensors import Shape


@dataclass(frozen=True)
class ConcatOp(ManyInputs):
    """Concatenation along channels of tensors with equal quantization."""

    kind: ClassVar[str] = "concat"
    shares_scale: ClassVar[bool] = True
    name: str
    input_names: tuple[str, ...]
    output: str

    @classmethod
    def shape_of(cls, shapes: Sequence[Shape], settings: Settings) -> Shape:
        if len({s[1:] for s in shapes}) != 1:
            raise ValueError(
                f"tensors of sizes {[s[1:] for s in shapes]} cannot be joined; the image size must be a multiple of "
                "the largest stride"
            )
        return sum(s[0] for s in shapes), *shapes[0][1:]

    @classmethod
    def real(cls, settings: Settings) -> RealFunction:
        return lambda x, w, b: torch.cat(x, 1)

    def make_kernel(self, machine: Machine) -> Kernel:
        return lambda x: torch.cat(x, 1)
