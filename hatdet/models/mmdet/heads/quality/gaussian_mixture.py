"""Two normal distributions fitted to numbers, many sets of numbers at once."""

from __future__ import annotations

import math

import torch
from torch import Tensor

COVARIANCES = ("full", "tied", "diag", "spherical")


def fit_two(
    values: Tensor,
    known: Tensor,
    covariance: str = "diag",
    tolerance: float = 1e-3,
    steps: int = 100,
    floor: float = 1e-6,
) -> tuple[Tensor, Tensor]:
    """Expectation maximization, started with the least and the greatest number as means and variances of 1.

    Two numbers are often equally typical of a distribution but for rounding, and the reference's assignment hangs on
    which of them is the more typical: so the order of operations is that of scikit-learn, for each kind.

    Args:
        values: (sets, n) numbers.
        known: bool (sets, n): those that count.
        covariance: of :data:`COVARIANCES`; ``tied``: both have one variance; the others differ in rounding only.
        tolerance: a set is done when its mean log-likelihood changes by less.
        steps: at most so many.
        floor: added to variances.

    Returns:
        Whether each number more likely comes of the lower distribution: bool (sets, n); and the logarithm of its
        density (sets, n).
    """
    values = torch.where(known, values, 0)
    x, squares, mask = values.double(), (values * values).double(), known.double()
    expanded, count = covariance in ("diag", "spherical"), mask.sum(dim=1)
    low = torch.where(known, x, torch.inf).amin(dim=1)
    high = torch.where(known, x, -torch.inf).amax(dim=1)
    means = torch.stack((low, high), dim=1)
    shares, variances = torch.full_like(means, 0.5), torch.ones_like(means)
    before, running = torch.full_like(count, -torch.inf), torch.ones_like(known[:, 0])
    for _ in range(steps):
        joint = _log_densities(x, squares, shares, means, variances, expanded)
        total = joint.logsumexp(dim=-1)
        likelihood = torch.where(known, total, 0).sum(dim=1) / count
        of_each = (joint - total[..., None]).exp() * mask[..., None]
        weight = of_each.sum(dim=1) + 10 * torch.finfo(x.dtype).eps
        new_means = (of_each * x[..., None]).sum(dim=1) / weight
        if expanded:
            mean_squares = (of_each * squares[..., None]).sum(dim=1) / weight
            new = mean_squares - 2 * (new_means * (of_each * x[..., None]).sum(dim=1) / weight) + new_means**2
        elif covariance == "tied":
            spread = squares.sum(dim=1) - (weight * new_means * new_means).sum(dim=1)
            new = (spread / weight.sum(dim=1))[:, None].expand_as(weight)
        else:
            new = (of_each * (x[..., None] - new_means[:, None]) ** 2).sum(dim=1) / weight
        go = running[:, None]
        means = torch.where(go, new_means, means)
        new = torch.where(new + floor > 0, new + floor, floor)  # a little below 0 by rounding
        variances = torch.where(go, new, variances)
        shares = torch.where(go, weight / weight.sum(dim=1, keepdim=True), shares)
        running = running & ((likelihood - before).abs() >= tolerance)
        before = likelihood
        if not bool(running.any()):
            break
    joint = _log_densities(x, squares, shares, means, variances, expanded)
    return joint[..., 0] >= joint[..., 1], joint.logsumexp(dim=-1)


def _log_densities(
    x: Tensor, squares: Tensor, shares: Tensor, means: Tensor, variances: Tensor, expanded: bool
) -> Tensor:
    """(sets, n) and (sets, 2) -> (sets, n, 2)."""
    root = 1 / variances.sqrt()
    if expanded:
        precision = root**2
        constant, slope = (means**2 * precision)[:, None], (means * precision)[:, None]
        distance = constant - 2 * (x[..., None] * slope) + squares[..., None] * precision[:, None]
    else:
        distance = (x[..., None] * root[:, None] - (means * root)[:, None]) ** 2
    return -0.5 * (math.log(2 * math.pi) + distance) + root.log()[:, None] + shares.log()[:, None]
