"""Two normal distributions fitted to numbers, many sets of numbers at once."""

from __future__ import annotations

import math

import torch
from torch import Tensor

COVARIANCES = ("full", "tied", "diag", "spherical")


def fit_two(
    values: Tensor, known: Tensor, tied: bool = False, tolerance: float = 1e-3, steps: int = 100, floor: float = 1e-6
) -> tuple[Tensor, Tensor]:
    """Expectation maximization, started with the least and the greatest number as means and variances of 1.

    Args:
        values: (sets, n) numbers.
        known: bool (sets, n): those that count.
        tied: both have one variance.
        tolerance: a set is done when its mean log-likelihood changes by less.
        steps: at most so many.
        floor: added to variances.

    Returns:
        Whether each number more likely comes of the lower distribution: bool (sets, n); and the logarithm of its
        density (sets, n).
    """
    x, mask = values.double(), known.double()
    count = mask.sum(dim=1)
    low = torch.where(known, x, torch.inf).amin(dim=1)
    high = torch.where(known, x, -torch.inf).amax(dim=1)
    means = torch.stack((low, high), dim=1)
    shares, variances = torch.full_like(means, 0.5), torch.ones_like(means)
    before, running = torch.full_like(count, -torch.inf), torch.ones_like(known[:, 0])
    for _ in range(steps):
        joint = _log_densities(x, shares, means, variances)
        total = joint.logsumexp(dim=-1)
        likelihood = (torch.where(known, total, 0)).sum(dim=1) / count
        of_each = (joint - total[..., None]).exp() * mask[..., None]
        weight = of_each.sum(dim=1) + 10 * torch.finfo(x.dtype).eps
        new_means = (of_each * x[..., None]).sum(dim=1) / weight
        squares = (of_each * (x[..., None] - new_means[:, None]) ** 2).sum(dim=1)
        new_variances = (squares.sum(dim=1, keepdim=True) / weight.sum(dim=1, keepdim=True)).expand_as(weight) if tied \
            else squares / weight  # fmt: skip
        go = running[:, None]
        means = torch.where(go, new_means, means)
        variances = torch.where(go, new_variances + floor, variances)
        shares = torch.where(go, weight / weight.sum(dim=1, keepdim=True), shares)
        running = running & ((likelihood - before).abs() >= tolerance)
        before = likelihood
        if not bool(running.any()):
            break
    joint = _log_densities(x, shares, means, variances)
    return joint[..., 0] >= joint[..., 1], joint.logsumexp(dim=-1)


def _log_densities(x: Tensor, shares: Tensor, means: Tensor, variances: Tensor) -> Tensor:
    """(sets, n) and (sets, 2) -> (sets, n, 2)."""
    squared = (x[..., None] - means[:, None]) ** 2 / variances[:, None]
    return -0.5 * (math.log(2 * math.pi) + squared + variances.log()[:, None]) + shares.log()[:, None]
