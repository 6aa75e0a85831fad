"""Convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from hatdet.integer import onednn
from hatdet.integer.kernels import convolve
from hatdet.integer.native.kernels import Kernels, NativeConv
from hatdet.integer.native.requantization import Fused
from hatdet.integer.operators.base import REMEDY, RealFunction, Settings
from hatdet.integer.operators.limits import real_limits
from hatdet.integer.operators.windows.weighted import Sums, WeightedOp
from hatdet.integer.operators.windows.window import Pair, check_window, window_sizes
from hatdet.integer.tensors import Shape
from hatdet.utils.errors import UserError


@dataclass(frozen=True, eq=False)
class ConvOp(WeightedOp):
    """Convolution (dense, grouped or depthwise) with symmetric zero padding as torch's, and a fused activation.

    acc = sum w * (x - Zx) + bias; y = clamp(MBQM(acc; Sx * Sw_c / Sy) + Zy, lo, hi). A padded position contributes 0.
    """

    kind: ClassVar[str] = "conv"
    wide_output: ClassVar[bool] = True
    setting_names: ClassVar[tuple[str, ...]] = ("stride", "padding", "dilation", "groups", "activation")
    weight: NDArray[np.int8]
    bias: NDArray[np.int32]
    weight_scale: NDArray[np.float32]
    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int
    activation: str
    lo: int
    hi: int
    weight_bits: int = 8

    @classmethod
    def shape_of(cls, shapes: Sequence[Shape], settings: Settings) -> Shape:
        kernel, stride, padding, dilation = (settings[n] for n in ("kernel", "stride", "padding", "dilation"))
        return settings["channels"], *window_sizes(shapes[0], kernel, stride, padding, dilation)

    @classmethod
    def real(cls, settings: Settings) -> RealFunction:
        limits = real_limits(settings["activation"])
        geometry = tuple(settings[name] for name in ("stride", "padding", "dilation", "groups"))
        return lambda x, w, b: limits(F.conv2d(x[0], w, b, *geometry))  # type: ignore[arg-type]

    def check(self, shapes: Sequence[Shape]) -> None:
        super().check(shapes)
        (outputs, inputs), channels = self.weight.shape[:2], shapes[0][0]
        if self.groups < 1 or outputs % self.groups or inputs * self.groups != channels:
            raise UserError(
                f"convolution {self.name!r}: weight {self.weight.shape} in {self.groups} groups "
                f"does not fit {channels} input channels: {REMEDY}"
            )
        check_window(self, shapes[0], self.weight.shape[2:], self.stride, self.padding, self.dilation)

    def reordered(self, channels: Sequence[int]) -> ConvOp | None:
        """Of a depthwise convolution with one output a channel."""
        alone = self.groups == len(self.weight) and self.weight.shape[1] == 1
        return replace(self.picked(channels), groups=len(channels)) if alone else None

    def with_outputs(self, channels: Sequence[int]) -> ConvOp | None:
        """Of a dense one; of one in groups, where each channel stays in its group."""
        size = len(self.weight) // self.groups
        stays = [c // size for c in channels] == [j // size for j in range(len(self.weight))]
        return self.picked(channels) if self.groups == 1 or stays else None

    def with_inputs(self, channels: Sequence[int]) -> ConvOp | None:
        """Of a dense one."""
        return super().with_inputs(channels) if self.groups == 1 else None

    def macs(self, output: Shape) -> int:
        return int(np.prod(self.weight.shape)) * output[1] * output[2]

    def sums(self, x: Tensor, weight: Tensor, bias: Tensor, parts: int) -> Tensor:
        return convolve(x, weight, bias, self.stride, self.padding, self.dilation, self.groups, parts)

    def native(self, kernels: Kernels, fused: Fused, zero: int, limits: tuple[int, int, int]) -> NativeConv:
        geometry = self.stride, self.padding, self.dilation, self.groups
        return NativeConv(kernels, self.weight, self.bias, fused, zero, limits, *geometry)

    def packed(self, zero: int, weight: Tensor, bias: Tensor, parts: int) -> Sums | None:
        if not onednn.available() or (parts > 1 and self.groups != 1):
            return None
        return onednn.packed_conv(weight, bias, zero, self.stride, self.padding, self.dilation, self.groups, parts)
