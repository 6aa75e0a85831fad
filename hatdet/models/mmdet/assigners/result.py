"""What an assigner returns, and steps that assigners share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

_BLOCK = 1 << 17  # pairs worked on at once: temporaries of half a megabyte stay in a CPU's cache
_THIN = 16  # columns that are looked at together when a row is searched


class AssignResult:
    """The ground truth of each prior (or prediction) of a picture.

    Attributes:
        num_gts: ground truths.
        gt_inds: int64 (n,): 0 is background, k the k-th ground truth (from 1), -1 neither.
        max_overlaps: float32 (n,), see each assigner; or None.
        labels: int64 (n,): class of the ground truth, -1 where there is none.
        assign_metrics: float32 (n,): how well a prior is aligned with its box, of assigners that measure it.
    """

    assign_metrics: Tensor

    def __init__(self, num_gts: int, gt_inds: Tensor, max_overlaps: Tensor | None, labels: Tensor) -> None:
        self.num_gts = num_gts
        self.gt_inds = gt_inds
        self.max_overlaps = max_overlaps
        self.labels = labels
        self._extra: dict[str, Any] = {}

    @property
    def num_preds(self) -> int:
        """Priors."""
        return len(self.gt_inds)

    def set_extra_property(self, key: str, value: Any) -> None:
        """Keep what only some heads want to know."""
        self._extra[key] = value

    def get_extra_property(self, key: str) -> Any:
        """What was kept under this name, or None."""
        return self._extra.get(key)

    def add_gt_(self, gt_labels: Tensor) -> None:
        """Put the ground truths before the priors, each assigned to itself."""
        own = torch.arange(1, len(gt_labels) + 1, device=gt_labels.device)
        self.gt_inds = torch.cat((own, self.gt_inds))
        if self.max_overlaps is not None:
            self.max_overlaps = torch.cat((self.max_overlaps.new_ones(len(gt_labels)), self.max_overlaps))
        self.labels = torch.cat((gt_labels, self.labels))

    def to(self, device: torch.device) -> AssignResult:
        """The same with all tensors there."""
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, name, value.to(device))
        return self


def assigned(gt_inds: Tensor, gt_labels: Tensor, max_overlaps: Tensor | None) -> AssignResult:
    """The result with the labels that follow from ``gt_inds``."""
    labels = torch.full_like(gt_inds, -1)
    positive = (gt_inds > 0).nonzero().squeeze(1)
    labels[positive] = gt_labels[gt_inds[positive] - 1]
    return AssignResult(len(gt_labels), gt_inds, max_overlaps, labels)


def nothing(count: int, gt_labels: Tensor, max_overlaps: Tensor | None) -> AssignResult:
    """Background everywhere: there are no boxes, or no priors."""
    return assigned(torch.zeros(count, dtype=torch.int64, device=gt_labels.device), gt_labels, max_overlaps)


def best_pairs(row: Tensor, column: Tensor, value: Tensor, count: int, lowest: float) -> tuple[Tensor, Tensor]:
    """Of pairs (row, column) with a value, for each column the row of the greatest one, the first of equals.

    Args:
        row, column, value: (pairs,).
        count: columns.
        lowest: value of a column without a pair.

    Returns:
        int64 (count,): 1 + the row, 0 without a pair; and the values (count,).
    """
    best = value.new_full((count,), lowest).scatter_reduce_(0, column, value, "amax")
    first = value == best[column]
    none = torch.iinfo(torch.int64).max
    index = torch.full((count,), none, device=row.device).scatter_reduce_(0, column[first], row[first], "amin")
    return torch.where(index == none, 0, index + 1), best


def last_pairs(row: Tensor, column: Tensor, count: int) -> Tensor:
    """Of pairs (row, column), for each column 1 + the last row, 0 without a pair: int64 (count,)."""
    return torch.zeros(count, dtype=torch.int64, device=row.device).scatter_reduce_(0, column, row + 1, "amax")


def blocks(rows: int, columns: int, device: torch.device) -> Iterator[slice]:
    """Runs of rows of a table; all at once on a GPU."""
    size = max(_BLOCK // max(columns, 1), 1) if device.type == "cpu" else max(rows, 1)
    return (slice(start, start + size) for start in range(0, rows, size))


def least(table: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The ``count`` least values of each row, rising, and their columns; of equal ones any.

    A long row is first thinned: its least values lie in the ``count`` strides with the least minima.
    """
    rows, width = table.shape
    stride = width // _THIN
    if stride < 2 * count or table.device.type != "cpu":
        values, index = table.topk(count, dim=1, largest=False)
        return values, index
    even = table[:, : stride * _THIN].view(rows, _THIN, stride)
    first = even.amin(dim=1).topk(count, dim=1, largest=False).indices
    offset = torch.arange(_THIN, device=table.device)[:, None] * stride
    tail = torch.arange(stride * _THIN, width, device=table.device).expand(rows, -1)
    column = torch.cat(((first[:, None] + offset).flatten(1), tail), dim=1)
    values, place = table.gather(1, column).topk(count, dim=1, largest=False)
    return values, column.gather(1, place)


def centres(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """x (n,) and y (n,) of boxes (n, 4)."""
    return (boxes[:, 0] + boxes[:, 2]) / 2.0, (boxes[:, 1] + boxes[:, 3]) / 2.0


def margins(x: Tensor, y: Tensor, boxes: Tensor) -> Tensor:
    """Distance of points to the nearest side of boxes (n, 4), negative outside: (n, k) of x and y (n, k) or (k,)."""
    x1, y1, x2, y2 = boxes[:, :, None].unbind(1)
    return torch.minimum(torch.minimum(x - x1, x2 - x), torch.minimum(y - y1, y2 - y))
