"""Transposed convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from hatdet.integer.kernels import accumulate
from hatdet.integer.operators.base import RealFunction, Settings
from hatdet.integer.operators.limits import real_limits
from hatdet.integer.operators.windows.weighted import WeightedOp
from hatdet.integer.operators.windows.window import Pair
from hatdet.integer.tensors import Shape


@dataclass(frozen=True, eq=False)
class ConvTransposeOp(WeightedOp):
    """Transposed convolution (dense) as torch has it, and a fused activation.

    acc[o, s * i - p + k] = sum over all such i and k of w[o, c, k] * (x[c, i] - Zx), + bias[o]; y =
    clamp(MBQM(acc; Sx * Sw_o / Sy) + Zy, lo, hi). ``padding`` rows and columns are cut off on each side,
    ``output_padding`` fewer at the end; a position that no product reaches is the bias.
    Kernels: TensorFlow Lite, reference_integer_ops::TransposeConv. Valid where a convolution's numbers are.
    """

    kind: ClassVar[str] = "conv_transpose"
    weight_layout: ClassVar[str] = "(outputs, inputs, rows, columns)"
    setting_names: ClassVar[tuple[str, ...]] = ("stride", "padding", "output_padding", "activation")
    weight: NDArray[np.int8]
    bias: NDArray[np.int32]
    weight_scale: NDArray[np.float32]
    stride: Pair
    padding: Pair
    output_padding: Pair
    activation: str
    lo: int
    hi: int
    weight_bits: int = 8

    @classmethod
    def shape_of(cls, shapes: Sequence[Shape], settings: Settings) -> Shape:
        numbers = zip(shapes[0][1:], *(settings[n] for n in ("stride", "padding", "kernel", "output_padding")))
        rows, columns = ((n - 1) * s - 2 * p + k + more for n, s, p, k, more in numbers)
        return settings["channels"], rows, columns

    @classmethod
    def real(cls, settings: Settings) -> RealFunction:
        limits = real_limits(settings["activation"])
        geometry = tuple(settings[name] for name in ("stride", "padding", "output_padding"))
        return lambda x, w, b: limits(transposed(x[0], w, b, *geometry))  # type: ignore[arg-type]

    def check(self, shapes: Sequence[Shape]) -> None:
        super().check(shapes)
        if self.weight.shape[1] != shapes[0][0]:
            raise self.refusal(f"a weight of {self.weight.shape[1]} inputs", f"{shapes[0][0]}, as its input has")
        numbers = ("stride", self.stride, 1), ("padding", self.padding, 0), ("output_padding", self.output_padding, 0)
        for what, values, least in numbers:
            self.check_numbers(what, values, 2, least)
        if any(more >= s for more, s in zip(self.output_padding, self.stride, strict=True)):
            raise self.refusal(f"output_padding {self.output_padding}", f"less than the stride {self.stride}")
        size = self.shape_of(shapes, self.settings)[1:]
        if min(size) < 1:
            raise self.refusal(f"an output of {size[0]} x {size[1]}", "1 x 1 and more: less padding")

    def macs(self, output: Shape) -> int:
        sizes = zip(output[1:], self.stride, self.padding, self.weight.shape[2:], self.output_padding, strict=True)
        rows, columns = ((n + 2 * p - k - more) // s + 1 for n, s, p, k, more in sizes)
        return int(np.prod(self.weight.shape)) * rows * columns

    def sums(self, x: Tensor, weight: Tensor, bias: Tensor, parts: int) -> Tensor:
        return sums(x, weight, bias, self.stride, self.padding, self.output_padding, parts)


def sums(
    x: Tensor, weight: Tensor, bias: Tensor, stride: Pair, padding: Pair, output_padding: Pair, parts: int
) -> Tensor:
    """Accumulators of centred codes, see :func:`~hatdet.integer.kernels.accumulate`."""
    return accumulate(lambda x, w, b: transposed(x, w, b, stride, padding, output_padding), x, weight, bias, 1, parts)


def transposed(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair, output_padding: Pair
) -> Tensor:
    """torch's function of a weight (O, I, kh, kw)."""
    return F.conv_transpose2d(x, weight.transpose(0, 1), bias, stride, padding, output_padding)
