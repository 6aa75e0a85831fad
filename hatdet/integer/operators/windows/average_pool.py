"""Average pooling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from hatdet.integer.operators.base import Kernel, Machine, OneInput, RealFunction, Settings
from hatdet.integer.operators.windows.window import Pair, check_window, mean_of_codes, window_sizes
from hatdet.integer.tensors import Shape


@dataclass(frozen=True)
class AveragePoolOp(OneInput):
    """Mean of windows, rounded half away from zero on codes. Parameters are unchanged.

    What is padded does not count (torch's ``count_include_pad=False``; of a mean in which it counts the zeros are a pad
    before it). The padding is that of TensorFlow's SAME: half of kernel minus stride, of maps that strides divide.
    """

    kind: ClassVar[str] = "average_pool"
    shares_scale: ClassVar[bool] = True
    channelwise: ClassVar[bool] = True
    setting_names: ClassVar[tuple[str, ...]] = ("kernel", "stride", "padding")
    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)

    @classmethod
    def shape_of(cls, shapes: Sequence[Shape], settings: Settings) -> Shape:
        return shapes[0][0], *window_sizes(shapes[0], settings["kernel"], settings["stride"], settings["padding"])

    @classmethod
    def real(cls, settings: Settings) -> RealFunction:
        kernel, stride, padding = (settings[name] for name in cls.setting_names)
        return lambda x, w, b: F.avg_pool2d(x[0], kernel, stride, padding, count_include_pad=False)

    def make_kernel(self, machine: Machine) -> Kernel:
        offset = machine.offset(self.input)
        return lambda x: average_pool(x[0], self.kernel, self.stride, self.padding, offset)

    def check(self, shapes: Sequence[Shape]) -> None:
        check_window(self, shapes[0], self.kernel, self.stride, self.padding)
        if self.padding != (0, 0) and not is_same(shapes[0][1:], self.kernel, self.stride, self.padding):
            found = f"padding {self.padding} of maps of {shapes[0][1]} x {shapes[0][2]}"
            raise self.refusal(found, "half of kernel minus stride, of maps that the strides divide")


def is_same(size: Sequence[int], kernel: Pair, stride: Pair, padding: Pair) -> bool:
    """Whether TensorFlow's SAME pads maps of ``size`` (H, W) so."""
    axes = zip(size, kernel, stride, padding, strict=True)
    return all(k - s == 2 * p and n % s == 0 for n, k, s, p in axes)


def average_pool(x: Tensor, kernel: Pair, stride: Pair, padding: Pair, zero: int) -> Tensor:
    """Means of windows; ``x`` and the result hold ``code - zero``. Sums of at most 64 codes are exact in float32."""
    n: int | Tensor = kernel[0] * kernel[1]
    if padding != (0, 0):
        ones = x.new_ones((1, 1, *x.shape[2:]), dtype=torch.float32)
        n = F.avg_pool2d(ones, kernel, stride, padding, divisor_override=1)
    total = F.avg_pool2d(x.float(), kernel, stride, padding, divisor_override=1) + n * zero
    mean = mean_of_codes(total, n) - zero
    return mean.to(torch.int32).to(x.dtype) if x.dtype == torch.uint8 else mean
