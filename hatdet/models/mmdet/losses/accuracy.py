"""How often the right class is among the best."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

from torch import Tensor, nn


@overload
def accuracy(pred: Tensor, target: Tensor, topk: int = 1, thresh: float | None = None) -> Tensor: ...
@overload
def accuracy(pred: Tensor, target: Tensor, topk: Sequence[int], thresh: float | None = None) -> list[Tensor]: ...
def accuracy(
    pred: Tensor, target: Tensor, topk: int | Sequence[int] = 1, thresh: float | None = None
) -> Tensor | list[Tensor]:
    """Percent of the rows whose class is among the ``topk`` highest scores.

    Args:
        pred: scores (n, classes).
        target: int64 (n,).
        topk: one number, or several: then a list of results.
        thresh: a class with a lower score does not count as found.

    Returns:
        (1,) of each ``topk``; a scalar 0 where n is 0.
    """
    counts = (topk,) if isinstance(topk, int) else tuple(topk)
    if max(counts) > pred.shape[1]:
        raise ValueError(f"topk is at most the number of classes ({pred.shape[1]}), got {max(counts)}")
    if len(pred) == 0:
        found = [pred.new_tensor(0.0) for _ in counts]
    else:
        best, classes = pred.topk(max(counts), dim=1)
        right = classes == target[:, None]
        if thresh is not None:
            right = right & (best > thresh)
        found = [right[:, :count].sum().float().mul(100 / len(pred)).reshape(1) for count in counts]
    return found[0] if isinstance(topk, int) else found


class Accuracy(nn.Module):
    """:func:`accuracy` as a module.

    Args:
        topk: see there.
        thresh: see there.
    """

    def __init__(self, topk: tuple[int, ...] = (1,), thresh: float | None = None) -> None:
        super().__init__()
        self.topk, self.thresh = topk, thresh

    def forward(self, pred: Tensor, target: Tensor) -> list[Tensor]:
        """See :func:`accuracy`."""
        return accuracy(pred, target, self.topk, self.thresh)
