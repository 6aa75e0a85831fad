"""Integer convolutions through oneDNN's int8 kernels, used only where they prove exact on this machine.

The kernel hands out its int32 accumulators as float32, which is exact below 2**24. On processors without VNNI the
products of two neighbouring inputs saturate at 16 bits; :func:`available` runs extreme values through every kind of
convolution once in a process and answers no there (and wherever the operator is missing).
"""

from __future__ import annotations

import functools
import itertools
import logging
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

logger = logging.getLogger("hatdet")
Pair = tuple[int, int]
KEPT_SHAPES = 4
"""Input shapes for which a convolution keeps its weights packed: an evaluation has two, whole batches and the last."""


class Int8Conv:
    """A convolution of uint8 codes with int8 weights, packed for each input shape that it meets.

    Weights packed without a shape may have a layout that the kernel for a shape then converts at every call, which
    costs up to forty times the convolution.

    Args:
        weight: (O, I / groups, kh, kw), integers of any dtype in [-127, 127].
        bias: (O,) integers as float32.
        zero_point: the uint8 code that stands for 0 (padding has it).
    """

    def __init__(
        self, weight: Tensor, bias: Tensor, zero_point: int, stride: Pair, padding: Pair, dilation: Pair, groups: int
    ) -> None:
        channels = weight.shape[0]
        self.ones = torch.ones(channels)
        self.zeros = torch.zeros(channels, dtype=torch.int32)
        self.bias, self.zero_point, self.groups = bias, zero_point, groups
        self.geometry = (list(stride), list(padding), list(dilation))
        self.codes = weight.to(torch.int32).to(torch.int8)
        self._packed: dict[tuple[int, ...], Tensor] = {}

    def packed(self, shape: tuple[int, ...]) -> Tensor:
        """The weights in the layout for inputs of ``shape``; those of the last few shapes are kept."""
        if shape not in self._packed:
            if len(self._packed) >= KEPT_SHAPES:
                del self._packed[next(iter(self._packed))]
            self._packed[shape] = torch.ops.onednn.qconv_prepack(
                self.codes, self.ones, 1.0, self.zero_point, *self.geometry, self.groups, list(shape)
            )
        return self._packed[shape]

    def __call__(self, x: Tensor) -> Tensor:
        """uint8 (B, I, H, W), channels_last -> accumulators (B, O, H', W') as float32, channels_last."""
        return torch.ops.onednn.qconv2d_pointwise(  # type: ignore[no-any-return]
            x, 1.0, self.zero_point, self.packed(tuple(x.shape)), self.ones, self.zeros, self.bias, *self.geometry,
            self.groups, 1.0, 0, torch.float32, "none", [], "",
        )  # fmt: skip


class SplitInt8Conv:
    """As :class:`Int8Conv` for accumulators of 2**24 and more: the input channels in ``parts``, the bias in float64."""

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        zero_point: int,
        stride: Pair,
        padding: Pair,
        dilation: Pair,
        groups: int,
        parts: int,
    ) -> None:
        none = torch.zeros(weight.shape[0])
        self.parts, self.bias = parts, bias.double().view(1, -1, 1, 1)
        self.pieces = [Int8Conv(w, none, zero_point, stride, padding, dilation, groups) for w in weight.chunk(parts, 1)]

    def __call__(self, x: Tensor) -> Tensor:
        """uint8 (B, I, H, W), channels_last -> accumulators (B, O, H', W') as float64, channels_last."""
        channels = x.chunk(self.parts, 1)
        sums = [
            conv(part.contiguous(memory_format=torch.channels_last)).double()
            for conv, part in zip(self.pieces, channels, strict=True)
        ]
        total = sums[0] + self.bias
        for other in sums[1:]:
            total += other
        return total.contiguous(memory_format=torch.channels_last)


def packed_conv(
    weight: Tensor,
    bias: Tensor,
    zero_point: int,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    parts: int,
) -> Callable[[Tensor], Tensor]:
    """The exact convolution of uint8 codes; ``parts`` as of ``kernels.parts_needed`` (with groups, at most 1)."""
    if parts == 0:
        return Int8Conv(weight, bias, zero_point, stride, padding, dilation, groups)
    return SplitInt8Conv(weight, bias, zero_point, stride, padding, dilation, groups, parts)


@functools.cache
def available() -> bool:
    """Whether the int8 kernels exist here and give exact accumulators on extreme values."""
    try:
        ok = _prove()
    except (RuntimeError, AttributeError, TypeError) as error:
        logger.debug("oneDNN int8 convolution not available: %s", error)
        return False
    if not ok:
        logger.debug("oneDNN int8 convolution is not exact on this processor; float32 convolutions are used")
    return ok


def _prove() -> bool:
    """Extreme and random codes through dense, 1x1, grouped, depthwise and strided convolutions."""
    if not torch.backends.mkldnn.is_available():
        return False
    generator = torch.Generator().manual_seed(0)
    for (k, stride, groups), zero in itertools.product(
        ((3, 1, 1), (3, 2, 1), (1, 1, 1), (3, 1, 4), (5, 1, 32)), (0, 77)
    ):
        channels, outputs = 32, 32
        shape = (outputs, channels // groups, k, k)
        for case in range(3):
            if case < 2:  # all products of one sign and the largest size, or of alternating sign
                weight = torch.full(shape, 127)
                if case:
                    weight.view(-1)[::2] = -127
                x = torch.full((2, channels, 11, 9), 255, dtype=torch.uint8)
            else:
                weight = torch.randint(-127, 128, shape, generator=generator)
                x = torch.randint(0, 256, (2, channels, 11, 9), dtype=torch.uint8, generator=generator)
            bias = torch.randint(-(2**20), 2**20, (outputs,), generator=generator).float()
            x = x.contiguous(memory_format=torch.channels_last)
            got = Int8Conv(weight, bias, zero, (stride,) * 2, (k // 2,) * 2, (1, 1), groups)(x)
            want = F.conv2d(x.double() - zero, weight.double(), bias.double(), stride, k // 2, 1, groups)
            if not torch.equal(got.double(), want):
                return False
    return True
