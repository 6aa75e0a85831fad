"""Heatmaps that fall off around keypoints, and the peaks of heatmaps (CornerNet, arXiv 1808.01244)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def gaussian_radius(sizes: Tensor, min_overlap: float) -> Tensor:
    """How far corners may be off so that a box still overlaps its truth by ``min_overlap``: (n,).

    The least of three: both corners shift alike, or the box grows, or it shrinks by as much at both.

    Args:
        sizes: (n, 2) heights and widths.
        min_overlap: intersection over union.
    """
    height, width = sizes.double().unbind(dim=1)
    around, area = height + width, height * width
    alike = _least_root(1.0, -around, area * (1 - min_overlap) / (1 + min_overlap))
    shrunk = _least_root(4.0, -2 * around, (1 - min_overlap) * area)
    a, b, c = 4 * min_overlap, 2 * min_overlap * around, (min_overlap - 1) * area
    grown = (-b + (b * b - 4 * a * c).sqrt()) / (2 * a)
    return torch.minimum(torch.minimum(alike, shrunk), grown)


def _least_root(a: float, b: Tensor, c: Tensor) -> Tensor:
    return (-b - (b * b - 4 * a * c).sqrt()) / (2 * a)


def gen_gaussian_target(
    shape: tuple[int, int, int], maps: Tensor, centres: Tensor, radii: Tensor, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Heatmaps with a peak of 1 at each keypoint; where several reach, the highest counts.

    Args:
        shape: (maps, h, w).
        maps: int64 (n,): the map of each keypoint.
        centres: int64 (n, 2) x, y.
        radii: int64 (n,): a keypoint reaches so many positions to each side; a sixth of its width is the deviation.
        dtype: of the maps.
    """
    height, width = shape[1:]
    found = torch.zeros(shape, dtype=dtype, device=centres.device)
    if not len(maps):
        return found
    deviation = (2 * radii + 1).double() / 6
    scale = (2 * deviation * deviation).to(dtype)[:, None, None]
    x = torch.arange(width, device=centres.device)[None] - centres[:, :1]
    y = torch.arange(height, device=centres.device)[None] - centres[:, 1:]
    near = (y.abs() <= radii[:, None])[:, :, None] & (x.abs() <= radii[:, None])[:, None]
    heat = (-(x * x)[:, None].to(dtype) / scale - (y * y)[:, :, None].to(dtype) / scale).exp()
    heat = torch.where(near & (heat >= torch.finfo(dtype).eps), heat, 0)
    index = maps[:, None].expand(-1, height * width)
    return found.flatten(1).scatter_reduce(0, index, heat.flatten(1), "amax").view(shape)


def last_at(places: Tensor, count: int) -> Tensor:
    """Which of the members at ``places`` (n,) of ``count`` is the last there: int64 (count,), -1 where none is."""
    number = torch.arange(len(places), device=places.device)
    return number.new_full((count,), -1).scatter_reduce(0, places, number, "amax")


def get_local_maximum(heat: Tensor, kernel: int = 3) -> Tensor:
    """(B, C, H, W) with zero where a neighbour is greater."""
    return heat * (F.max_pool2d(heat, kernel, stride=1, padding=(kernel - 1) // 2) == heat)


def get_topk_from_heatmap(scores: Tensor, k: int = 20) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The ``k`` highest of (B, C, H, W): scores, places in a map, classes, y and x, each (B, k)."""
    _, _, height, width = scores.shape
    best, index = scores.flatten(1).topk(k)
    places = index % (height * width)
    ys, xs = (places // width).to(scores.dtype), (places % width).to(scores.dtype)
    return best, places, index // (height * width), ys, xs


def transpose_and_gather_feat(feat: Tensor, places: Tensor) -> Tensor:
    """(B, C, H, W) at places (B, k) -> (B, k, C)."""
    return feat.flatten(2).transpose(1, 2).gather(1, places[..., None].expand(-1, -1, feat.shape[1]))
