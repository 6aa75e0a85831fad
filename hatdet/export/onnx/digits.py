"""Weights in digits, so that float32 convolutions on integers stay exact however many values they sum."""

from __future__ import annotations

import numpy as np
import torch

from hatdet.integer.arithmetic import EXACT_FLOAT32
from hatdet.integer.kernels import accumulator_bounds
from hatdet.integer.operators.windows.weighted import WeightedOp
from hatdet.utils.errors import UserError


def digits(op: WeightedOp, limits: tuple[int, int]) -> list[tuple[int, np.ndarray]]:
    """The weights as a sum of ``place * digit``, each digit's float32 convolution exact: [(place, digit), ...].

    One part with place 1 where the weights need no cutting (its convolution may add the bias too).

    Args:
        limits: of the centred input codes.

    Raises:
        UserError: digits of two bits could still sum to 2**24.
    """
    weight = torch.from_numpy(op.weight).float()
    bias = torch.from_numpy(op.bias).double()
    if float(accumulator_bounds(weight, bias, *limits).max()) < EXACT_FLOAT32:
        return [(1, op.weight)]
    none = torch.zeros_like(bias)
    for bits, count in ((4, 2), (3, 3), (2, 4)):
        base, rest = 1 << bits, op.weight.astype(np.int64)
        parts: list[tuple[int, np.ndarray]] = []
        for index in range(count):
            digit = rest if index == count - 1 else (rest + base // 2) % base - base // 2  # in [-base / 2, base / 2)
            parts.append((base**index, digit.astype(np.int8)))
            rest = (rest - digit) // base
        floats = (torch.from_numpy(digit).float() for _, digit in parts)
        if all(float(accumulator_bounds(digit, none, *limits).max()) < EXACT_FLOAT32 for digit in floats):
            return parts
    raise UserError(
        f"convolution {op.name!r} sums too many values for exact float32 arithmetic: {op.weight.shape}; "
        "use the QDQ form (--form qdq) or --format tflite"
    )
