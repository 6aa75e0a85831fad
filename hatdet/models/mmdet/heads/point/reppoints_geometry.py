"""Sets of points and the boxes that they stand for (RepPoints, arXiv 1904.11490).

Points come as channels (y, x, y, x, ...) of a map, in strides from the position they belong to.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

METHODS = ("minmax", "partial_minmax", "moment")


def square_side(points: int) -> int:
    """How many points a row has.

    Raises:
        ValueError: the points are not an odd square.
    """
    side = math.isqrt(points)
    if side * side != points or not side % 2:
        raise ValueError(f"num_points={points}; write an odd square: 9, 25, 49")
    return side


def square(points: int) -> Tensor:
    """(1, 2 * points, 1, 1): where a convolution of as many taps reads."""
    side = square_side(points)
    step = torch.arange(side, dtype=torch.float32) - side // 2
    return torch.stack((step.repeat_interleave(side), step.repeat(side)), dim=1).reshape(1, -1, 1, 1)


def to_boxes(points: Tensor, method: str, transfer: Tensor | None = None, y_first: bool = True) -> Tensor:
    """Points (B, 2 * n, ...) -> boxes (B, 4, ...).

    Args:
        points: of each position.
        method: ``minmax``: the box around all; ``partial_minmax``: around the first four; ``moment``: as many
            standard deviations around the mean as ``transfer`` says.
        transfer: logarithms of those factors (x, y).
        y_first: of the two numbers of a point the first is y.
    """
    pairs = points.reshape(len(points), points.shape[1] // 2, 2, *points.shape[2:])
    y, x = (pairs[:, :, 0], pairs[:, :, 1]) if y_first else (pairs[:, :, 1], pairs[:, :, 0])
    if method == "partial_minmax":
        y, x = y[:, :4], x[:, :4]
    if method != "moment":
        return torch.stack((x.amin(dim=1), y.amin(dim=1), x.amax(dim=1), y.amax(dim=1)), dim=1)
    assert transfer is not None
    centre_x, centre_y = x.mean(dim=1), y.mean(dim=1)
    half_x = torch.std(x - centre_x[:, None], dim=1) * torch.exp(transfer[0])
    half_y = torch.std(y - centre_y[:, None], dim=1) * torch.exp(transfer[1])
    return torch.stack((centre_x - half_x, centre_y - half_y, centre_x + half_x, centre_y + half_y), dim=1)


def box_grid(values: Tensor, boxes: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Numbers (B, 4, H, W) that move and stretch boxes -> a grid of ``side * side`` points in each, and the boxes.

    Args:
        values: shift of the centre in widths and heights, logarithms of factors.
        boxes: (B, 4, H, W) or (1, 4, 1, 1).
        side: points of a row.

    Returns:
        (B, 2 * side * side, H, W) and (B, 4, H, W).
    """
    centres, sizes = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]).clamp(min=1e-6)
    size = sizes * torch.exp(values[:, 2:])
    low = centres + sizes * values[:, :2] - 0.5 * size
    part = torch.linspace(0, 1, side, dtype=values.dtype, device=values.device).view(1, side, 1, 1)
    x, y = low[:, :1] + size[:, :1] * part, low[:, 1:] + size[:, 1:] * part
    b, _, h, w = values.shape
    x = x[:, None].expand(b, side, side, h, w)
    y = y[:, :, None].expand(b, side, side, h, w)
    return torch.stack((y, x), dim=3).reshape(b, -1, h, w), torch.cat((low, low + size), dim=1)
