"""Max pooling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from hatdet.integer.operators.base import Kernel, Machine, OneInput, RealFunction, Settings
from hatdet.integer.operators.windows.window import Pair, check_window, window_sizes
from hatdet.integer.tensors import Shape


@dataclass(frozen=True)
class MaxPoolOp(OneInput):
    """Max pooling; padded positions never win. Parameters are unchanged."""

    kind: ClassVar[str] = "max_pool"
    shares_scale: ClassVar[bool] = True
    channelwise: ClassVar[bool] = True
    setting_names: ClassVar[tuple[str, ...]] = ("kernel", "stride", "padding")
    kernel: Pair
    stride: Pair
    padding: Pair

    @classmethod
    def shape_of(cls, shapes: Sequence[Shape], settings: Settings) -> Shape:
        return shapes[0][0], *window_sizes(shapes[0], settings["kernel"], settings["stride"], settings["padding"])

    @classmethod
    def real(cls, settings: Settings) -> RealFunction:
        kernel, stride, padding = (settings[name] for name in cls.setting_names)
        return lambda x, w, b: max_pool(x[0], kernel, stride, padding)

    def make_kernel(self, machine: Machine) -> Kernel:
        return lambda x: max_pool(x[0], self.kernel, self.stride, self.padding)

    def check(self, shapes: Sequence[Shape]) -> None:
        check_window(self, shapes[0], self.kernel, self.stride, self.padding)
        if any(2 * p > k for p, k in zip(self.padding, self.kernel, strict=True)):
            raise self.refusal(f"padding {self.padding}", f"at most half of the kernel {self.kernel}")


def max_pool(x: Tensor, kernel: Pair, stride: Pair, padding: Pair) -> Tensor:
    """Max pooling of codes; a stride-1 pool larger than 3 is done as two one-dimensional ones."""
    if x.dtype == torch.uint8:
        return _max_of_bytes(x, kernel, stride, padding)
    if stride == (1, 1) and max(kernel) > 3:
        x = F.max_pool2d(x, (kernel[0], 1), (1, 1), (padding[0], 0))
        return F.max_pool2d(x, (1, kernel[1]), (1, 1), (0, padding[1]))
    return F.max_pool2d(x, kernel, stride, padding)


def _max_of_bytes(x: Tensor, kernel: Pair, stride: Pair, padding: Pair) -> Tensor:
    """Of windows that double: torch's own uint8 pooling refuses maps of more than 255 positions. What is padded is 0,
    which no byte is below."""
    if padding != (0, 0):
        x = F.pad(x, (padding[1], padding[1], padding[0], padding[0]))
    for axis, size, step in zip((2, 3), kernel, stride, strict=True):
        reach = 1
        while reach < size:
            shift = min(reach, size - reach)
            length = x.shape[axis] - shift
            x = torch.maximum(x.narrow(axis, shift, length), x.narrow(axis, 0, length))
            reach += shift
        if step > 1:
            x = x[:, :, ::step] if axis == 2 else x[:, :, :, ::step]
    return x.contiguous(memory_format=torch.channels_last)
