"""Small steps that dense heads share: from pictures to levels, through a mask and back, the best of many scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from hatdet.models.losses.reduce import mean_over_ranks

reduce_mean = mean_over_ranks


def multi_apply(function: Callable[..., Any], *lists: Sequence[Any], **same: Any) -> tuple[list[Any], ...]:
    """``function`` on the first, the second, ... members of ``lists``; its results as one list of each kind."""
    return tuple(map(list, zip(*(function(*members, **same) for members in zip(*lists, strict=True)), strict=True)))


def images_to_levels(targets: Sequence[Tensor], counts: Sequence[int]) -> list[Tensor]:
    """One (n, ...) of each picture, levels after each other -> one (pictures, n_i, ...) of each level."""
    return list(torch.stack(list(targets)).split(list(counts), dim=1))


def levels_to_images(maps: Sequence[Tensor]) -> list[Tensor]:
    """One (B, C, H_i, W_i) of each level -> one (sum of H_i W_i, C) of each picture."""
    flat = [level.permute(0, 2, 3, 1).flatten(1, 2) for level in maps]
    return list(torch.cat(flat, dim=1).unbind(0))


def flatten(level: Tensor, channels: int) -> Tensor:
    """(B, A * channels, H, W) -> (B, H * W * A, channels): priors in the order of the generators."""
    return level.permute(0, 2, 3, 1).reshape(level.shape[0], -1, channels)


def unmap(values: Tensor, count: int, inside: Tensor, fill: float = 0) -> Tensor:
    """(k, ...) of the members that ``inside`` (count,) picks -> (count, ...), the others ``fill``."""
    found = values.new_full((count, *values.shape[1:]), fill)
    found[inside.bool()] = values
    return found


def anchor_inside_flags(anchors: Tensor, valid: Tensor, img_shape: Sequence[int], allowed_border: int = 0) -> Tensor:
    """Which anchors (n, 4) are ``valid`` and reach at most ``allowed_border`` pixels out of the picture (h, w).

    A negative border allows everything.
    """
    if allowed_border < 0:
        return valid
    height, width = img_shape[:2]
    low = (anchors[:, :2] >= -allowed_border).all(dim=1)
    return valid & low & (anchors[:, 2] < width + allowed_border) & (anchors[:, 3] < height + allowed_border)


def filter_scores_and_topk(
    scores: Tensor, score_thr: float, topk: int, results: Any = None
) -> tuple[Tensor, Tensor, Tensor, Any]:
    """The best pairs of a prior and a class.

    Args:
        scores: (n, classes).
        score_thr: a pair must be above it.
        topk: at most so many; 0 or less: all.
        results: a tensor (n, ...), or a dict or list of such, to take the priors of the pairs from.

    Returns:
        Scores (k,), best first, classes (k,), priors (k,), and what was picked of ``results``.
    """
    pairs = (scores > score_thr).nonzero()
    found, order = scores[pairs[:, 0], pairs[:, 1]].sort(descending=True, stable=True)
    if topk > 0:
        found, order = found[:topk], order[:topk]
    priors, labels = pairs[order].unbind(dim=1)
    return found, labels, priors, _picked(results, priors)


def _picked(values: Any, index: Tensor) -> Any:
    if values is None:
        return None
    if isinstance(values, dict):
        return {key: value[index] for key, value in values.items()}
    if isinstance(values, list):
        return [value[index] for value in values]
    return values[index]


def select_single_mlvl(maps: Sequence[Tensor], index: int, detach: bool = True) -> list[Tensor]:
    """The maps of one picture, (C, H, W) of each level."""
    return [level[index].detach() if detach else level[index] for level in maps]


def featmap_sizes(maps: Sequence[Tensor]) -> list[tuple[int, int]]:
    """(h, w) of each level."""
    return [(level.shape[-2], level.shape[-1]) for level in maps]
