"""What convolutions and pools have in common: a kernel that moves over a padded map."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from hatdet.integer.operators.base import Operator
from hatdet.integer.tensors import Shape
from hatdet.utils.errors import UserError

Pair = tuple[int, int]


def window_size(size: int, kernel: int, stride: int, padding: int, dilation: int = 1) -> int:
    """Output length of a convolution or pooling along one axis."""
    return math.floor((size + 2 * padding - dilation * (kernel - 1) - 1) / stride) + 1


def window_sizes(shape: Shape, kernel: Pair, stride: Pair, padding: Pair = (0, 0), dilation: Pair = (1, 1)) -> Pair:
    """Rows and columns of the output."""
    rows, columns = (
        window_size(n, kernel[i], stride[i], padding[i], dilation[i]) for i, n in enumerate(shape[1:])
    )  # fmt: skip
    return rows, columns


def check_window(
    op: Operator,
    shape: Shape,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
) -> None:
    """Check that a kernel fits its padded map.

    Raises:
        UserError: naming the operator and the number.
    """
    for what, values, least in (
        ("kernel", kernel, 1), ("stride", stride, 1), ("padding", padding, 0), ("dilation", dilation, 1),
    ):  # fmt: skip
        op.check_numbers(what, values, 2, least)
    for size, k, p, d in zip(shape[1:], kernel, padding, dilation, strict=True):
        if d * (k - 1) + 1 > size + 2 * p:
            raise op.refusal(
                f"a kernel over {d * (k - 1) + 1} rows or columns", f"at most the padded map's {size + 2 * p}"
            )


def block_of(shape: Sequence[int], size: Pair) -> Pair:
    """Rows and columns of the equal blocks of a map (..., H, W) of which there are ``size``.

    Raises:
        UserError: the map is no whole number of such blocks.
    """
    height, width = (int(n) for n in shape[-2:])
    if height % size[0] or width % size[1] or not height * width:
        raise UserError(
            f"maps of {height} x {width} are not {size[0]} x {size[1]} equal blocks, to which they are pooled; use an "
            "image size of which they are a multiple, or AvgPool2d or MaxPool2d with a fixed kernel"
        )
    return height // size[0], width // size[1]


def mean_of_codes(total: Tensor, n: int | Tensor) -> Tensor:
    """trunc((s + n // 2) / n) for sums s > 0 of n codes, else trunc((s - n // 2) / n); n may differ between places.

    A quotient of integers this size is either a whole number or at least 1 / n off one: truncation is exact.
    """
    half = torch.as_tensor(n // 2, dtype=total.dtype, device=total.device)
    return torch.trunc((total + torch.where(total > 0, half, -half)) / n)
