"""Whether the compiled kernels compute on this machine what torch does: asked once in a process."""

from __future__ import annotations

import itertools

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from hatdet.integer.arithmetic import multiply_by_quantized_multiplier, multiply_rounding_once, quantize_multiplier
from hatdet.integer.native.kernels import Kernels, NativeConv
from hatdet.integer.native.requantization import FixedPoint, FloatProduct, Fused

_KINDS = ((1, 1, 1, 20, 40), (3, 1, 1, 6, 24), (3, 2, 1, 3, 8), (3, 1, 2, 10, 6), (5, 1, 24, 24, 24), (3, 2, 9, 9, 9))
"""Kernel, stride, groups, inputs, outputs."""


def prove(kernels: Kernels) -> bool:
    """Extreme and random codes through every kind of convolution, and all pairs through the tables."""
    random = np.random.default_rng(0)
    for (size, stride, groups, inputs, outputs), rounding in itertools.product(_KINDS, (0, 1, 2)):
        shape = (outputs, inputs // groups, size, size)
        for extreme in (True, False):
            weight = np.full(shape, 127) if extreme else random.integers(-127, 128, shape)
            weight[::2] *= -1 if extreme else 1
            x = np.full((2, inputs, 6, 7), 255) if extreme else random.integers(0, 256, (2, inputs, 6, 7))
            bias = random.integers(-(2**16), 2**16, outputs)
            factor = random.uniform(0.5, 2.0, outputs) * 64.0 / (size * np.sqrt(inputs / groups) * 127.0 * 74.0)
            fused: Fused = FloatProduct(factor.astype(np.float32))
            if rounding:
                fused = FixedPoint(*quantize_multiplier(factor), once=rounding == 1)
            made = NativeConv(
                kernels, weight.astype(np.int8), bias.astype(np.int32), fused, 77, (-100, 120, 110),
                (stride, stride), (size // 2, size // 2), (1, 1), groups,
            )(torch.from_numpy(x).to(torch.uint8))  # fmt: skip
            sums = F.conv2d(
                torch.from_numpy(x).double() - 77, torch.from_numpy(weight).double(), torch.from_numpy(bias).double(),
                stride, size // 2, 1, groups,
            )  # fmt: skip
            if not torch.equal(made, _referee(sums, fused)):
                return False
    return _tables_agree(kernels, random.integers(0, 256, 1 << 16).astype(np.uint8))


def _referee(sums: Tensor, fused: Fused) -> Tensor:
    if isinstance(fused, FloatProduct):
        values = (sums.float() * _channels(fused.scale)).round()
    else:
        multiply = multiply_rounding_once if fused.once else multiply_by_quantized_multiplier
        m, e = (v.reshape(1, -1, 1, 1) for v in (fused.m, fused.e))
        values = torch.from_numpy(multiply(sums.numpy().astype(np.int64), m, e))
    return (values.clamp(-100, 120) + 110).to(torch.uint8)


def _channels(values: NDArray[np.floating]) -> Tensor:
    return torch.from_numpy(values).view(1, -1, 1, 1)


def _tables_agree(kernels: Kernels, values: NDArray[np.uint8]) -> bool:
    table = torch.from_numpy(values)
    first = torch.arange(256, dtype=torch.uint8).view(1, 1, 256, 1).expand(1, 1, 256, 256).contiguous()
    second = first.transpose(2, 3).contiguous()
    pairs = kernels.look_up_pairs(first, second, table)
    single = kernels.look_up(first, table[:256].contiguous())
    return torch.equal(pairs.view(-1), table) and torch.equal(single, table[first.long()])
