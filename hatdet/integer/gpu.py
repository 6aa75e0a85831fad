"""Exact convolutions of integers on a GPU, in float32.

cuDNN is not asked: its float32 convolutions may go through TF32, which rounds inputs to eleven bits, or Winograd's
algorithm, whose transforms round. What is left are products summed one by one, so that every result is exact while no
partial sum reaches 2**24 (:func:`hatdet.integer.kernels.accumulator_bounds`): one matrix product for 1x1 kernels,
torch's own kernel for depthwise ones, a matrix product of the unfolded input for the others.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

_UNFOLDED = 1 << 27
"""Values of an unfolded input at a time (half a gigabyte)."""

Pair = tuple[int, int]


def fits(weight: Tensor, groups: int) -> bool:
    """Whether there is a form for this kernel: depthwise, or of one group."""
    return groups == 1 or weight.shape[1] == 1


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> Tensor:
    """``F.conv2d`` of float32 integers whose partial sums stay below 2**24, in channels_last memory."""
    with _ieee(x.device.type):
        if groups > 1:
            made = F.conv2d(x, weight, bias, stride, padding, dilation, groups)
        elif weight.shape[2:] == (1, 1) and padding == (0, 0):
            return _pointwise(x[:, :, :: stride[0], :: stride[1]], weight, bias)
        else:
            made = _unfolded(x, weight, bias, stride, padding, dilation)
    return made.contiguous(memory_format=torch.channels_last)


@contextlib.contextmanager
def _ieee(device: str) -> Iterator[None]:
    """Products as IEEE 754 has them: neither cuDNN nor TF32 nor autocast."""
    matmul = torch.backends.cuda.matmul
    newer = hasattr(matmul, "fp32_precision")  # since torch 2.9; the two ways must not be mixed
    name = "fp32_precision" if newer else "allow_tf32"
    before = getattr(matmul, name)
    with torch.backends.cudnn.flags(enabled=False), torch.autocast(device, enabled=False):
        try:
            setattr(matmul, name, "ieee" if newer else False)
            yield
        finally:
            setattr(matmul, name, before)


def _pointwise(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    pixels = x.permute(0, 2, 3, 1)
    batch, height, width, channels = pixels.shape
    rows, columns = pixels.reshape(-1, channels), weight.reshape(len(weight), channels).T
    made = rows @ columns if bias is None else torch.addmm(bias, rows, columns)
    return made.view(batch, height, width, -1).permute(0, 3, 1, 2)


def _unfolded(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair, dilation: Pair) -> Tensor:
    """The pixels below each place of the kernel beside each other, in rows; then one product."""
    kernel = weight.shape[2:]
    height, width = (
        (x.shape[2 + i] + 2 * padding[i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1 for i in (0, 1)
    )
    taps = weight.permute(0, 2, 3, 1).reshape(len(weight), -1, 1, 1)
    together = max(_UNFOLDED // (taps.shape[1] * height * width), 1)
    made = []
    for part in F.pad(x, (padding[1], padding[1], padding[0], padding[0])).split(together):
        pixels = part.permute(0, 2, 3, 1)
        below = [
            pixels[:, top : top + (height - 1) * stride[0] + 1 : stride[0],
                   left : left + (width - 1) * stride[1] + 1 : stride[1]]
            for top in range(0, dilation[0] * kernel[0], dilation[0])
            for left in range(0, dilation[1] * kernel[1], dilation[1])
        ]  # fmt: skip
        made.append(_pointwise(torch.cat(below, dim=3).permute(0, 3, 1, 2), taps, bias))
    return torch.cat(made) if len(made) > 1 else made[0]
