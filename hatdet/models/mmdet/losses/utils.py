"""What losses do with their elements: weights, and none, their mean or their sum."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

Reduction: TypeAlias = Literal["none", "mean", "sum"]
"""What is made of the loss of each element: nothing, the mean over them (or over ``avg_factor``), the sum."""
Divisor: TypeAlias = Tensor | float | None
_EPS = torch.finfo(torch.float32).eps


def reduce_loss(loss: Tensor, reduction: Reduction) -> Tensor:
    """A loss (any shape) as it is, or a scalar."""
    if reduction == "none":
        return loss
    return loss.mean() if reduction == "mean" else loss.sum()


def weight_reduce_loss(
    loss: Tensor, weight: Tensor | None = None, reduction: Reduction = "mean", avg_factor: Divisor = None
) -> Tensor:
    """Weigh the elements of a loss, then reduce it.

    Args:
        loss: any shape.
        weight: a factor of each element, of a shape that broadcasts.
        reduction: see :data:`Reduction`.
        avg_factor: what the sum is divided by in the place of the number of elements, for ``"mean"``.

    Raises:
        ValueError: ``avg_factor`` together with ``"sum"``.
    """
    if weight is not None:
        loss = loss * weight
    if avg_factor is None:
        return reduce_loss(loss, reduction)
    if reduction == "mean":
        return loss.sum() / (avg_factor + _EPS)  # a picture may have nothing that counts
    if reduction == "none":
        return loss
    raise ValueError("avg_factor divides a mean; leave it out with reduction='sum'")


def weighted_loss(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """``function(pred, target, ...)``, the loss of each element, with ``weight``, ``reduction`` and ``avg_factor``."""

    @functools.wraps(function)
    def weighed(
        pred: Tensor,
        target: Any,
        weight: Tensor | None = None,
        reduction: Reduction = "mean",
        avg_factor: Divisor = None,
        **options: Any,
    ) -> Tensor:
        return weight_reduce_loss(function(pred, target, **options), weight, reduction, avg_factor)

    return weighed


class WeightedLoss(nn.Module):
    """A loss of elements, with the options that all of them have.

    Args:
        reduction: see :data:`Reduction`.
        loss_weight: multiplies the result.

    Raises:
        ValueError: another reduction.
    """

    def __init__(self, reduction: Reduction = "mean", loss_weight: float = 1.0) -> None:
        super().__init__()
        self.reduction, self.loss_weight = _checked(reduction), loss_weight

    def chosen(self, override: Reduction | None) -> Reduction:
        """The reduction of a call: its own, or that of the loss."""
        return self.reduction if override is None else _checked(override)

    def reduced(
        self, loss: Tensor, weight: Tensor | None, avg_factor: Divisor, reduction_override: Reduction | None
    ) -> Tensor:
        """The loss of each element weighed, reduced, times ``loss_weight``."""
        return self.loss_weight * weight_reduce_loss(loss, weight, self.chosen(reduction_override), avg_factor)


def _checked(reduction: Reduction) -> Reduction:
    if reduction not in get_args(Reduction):
        raise ValueError(f"reduction is 'none', 'mean' or 'sum', got {reduction!r}")
    return reduction


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Bool (n, classes) of labels (n,): nothing where a label is no class (background, or negative: ignored)."""
    return labels[:, None] == torch.arange(classes, device=labels.device)


def fitted(weight: Tensor, loss: Tensor) -> Tensor:
    """Weights (n,) or (n * c,) as they broadcast over a loss (n, c)."""
    if weight.shape == loss.shape:
        return weight
    return weight.view(-1, 1) if len(weight) == len(loss) else weight.view(len(loss), -1)


def full(values: Tensor) -> Tensor:
    """Values of half precision in float32; others as they are."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
