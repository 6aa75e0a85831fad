"""Heatmaps that fall off around keypoints, and the peaks of heatmaps (CornerNet, arXiv 1808.01244)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def gaussian_radius(sizes: Tensor, min_overlap: float) -> Tensor:
    """How far corners may be off so that a box still overlaps its truth by ``min_overlap``: (n,).

    The least of three: both corners shift alike, or the box grows, or it shrinks by as much at both. It will be cut to
    an integer, so the order of its products is that of the reference.

    Args:
        sizes: (n, 2) heights and widths.
        min_overlap: intersection over union.
    """
    height, width = sizes.double().unbind(dim=1)
    around, area = height + width, height * width
    alike = _least_root(1.0, -around, area * (1 - min_overlap) / (1 + min_overlap))
    shrunk = _least_root(4.0, -2 * around, (1 - min_overlap) * width * height)
    a, b, c = 4 * min_overlap, 2 * min_overlap * around, (min_overlap - 1) * width * height
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
    count, height, width = shape
    heat = torch.zeros(count * height * width + 1, dtype=dtype, device=centres.device)  # the last: outside
    if not len(maps):
        return heat[:-1].view(shape)
    reach = int(radii.max())
    step = torch.arange(-reach, reach + 1, device=centres.device)
    deviation = (2 * radii + 1).double() / 6
    squared = (step[:, None] ** 2 + step**2).to(dtype)
    values = (-squared / (2 * deviation * deviation).to(dtype)[:, None, None]).exp()
    x, y = centres[:, :1] + step, centres[:, 1:] + step
    near = step.abs() <= radii[:, None]
    across, down = near & (x >= 0) & (x < width), near & (y >= 0) & (y < height)
    inside = down[:, :, None] & across[:, None] & (values >= torch.finfo(dtype).eps)
    places = (maps[:, None, None] * height + y[:, :, None]) * width + x[:, None]
    places = torch.where(inside, places, len(heat) - 1)
    heat = heat.scatter_reduce(0, places.flatten(), torch.where(inside, values, 0).flatten(), "amax")
    return heat[:-1].view(shape)


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


def highest(scores: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """As :func:`get_topk_from_heatmap`; of equal scores the first, by place and class."""
    _, classes, _, width = scores.shape
    best, index = scores.permute(0, 2, 3, 1).flatten(1).sort(dim=1, descending=True, stable=True)
    best, index = best[:, :k], index[:, :k]
    places = index // classes
    return best, places, index % classes, (places // width).to(scores.dtype), (places % width).to(scores.dtype)


def transpose_and_gather_feat(feat: Tensor, places: Tensor) -> Tensor:
    """(B, C, H, W) at places (B, k) -> (B, k, C)."""
    return feat.flatten(2).transpose(1, 2).gather(1, places[..., None].expand(-1, -1, feat.shape[1]))
