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
    """Mean of unpadded windows, rounded half away from zero on codes. Parameters are unchanged."""

    kind: ClassVar[str] = "average_pool"
    shares_scale: ClassVar[bool] = True
    channelwise: ClassVar[bool] = True
    setting_names: ClassVar[tuple[str, ...]] = ("kernel", "stride")
    name: str
    input: str
    output: str
    kernel: Pair
    stride: Pair

    @classmethod
    def shape_of(cls, shapes: Sequence[Shape], settings: Settings) -> Shape:
        return shapes[0][0], *window_sizes(shapes[0], settings["kernel"], settings["stride"])

    @classmethod
    def real(cls, settings: Settings) -> RealFunction:
        kernel, stride = settings["kernel"], settings["stride"]
        return lambda x, w, b: F.avg_pool2d(x[0], kernel, stride)

    def make_kernel(self, machine: Machine) -> Kernel:
        offset = machine.offset(self.input)
        return lambda x: average_pool(x[0], self.kernel, self.stride, offset)

    def check(self, shapes: Sequence[Shape]) -> None:
        check_window(self, shapes[0], self.kernel, self.stride)


def average_pool(x: Tensor, kernel: Pair, stride: Pair, zero: int) -> Tensor:
    """Means of unpadded windows; ``x`` and the result hold ``code - zero``. Sums of at most 64 codes are exact in
    float32."""
    n = kernel[0] * kernel[1]
    total = F.avg_pool2d(x.float(), kernel, stride, divisor_override=1) + float(n * zero)
    mean = mean_of_codes(total, n) - zero
    return mean.to(torch.int32).to(x.dtype) if x.dtype == torch.uint8 else mean
