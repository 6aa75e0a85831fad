"""The greatest overlaps of many priors with boxes, without the whole table of them at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from hatdet.models.mmdet.assigners.result import blocks

_RUN = 64  # priors whose greatest overlap with a box is kept: where it is the box's greatest, they are looked at again


@dataclass(frozen=True)
class Table:
    """Overlaps of m boxes (at least 1) with n priors.

    Attributes:
        columns: some priors (a slice, or int64 (k,)) -> their overlaps (m, k), which the caller may change.
        pairs: boxes (p,) and priors (p,) -> their overlaps (p,), equal to those of ``columns`` to the bit.
    """

    boxes: int
    priors: int
    device: torch.device
    columns: Callable[[slice | Tensor], Tensor]
    pairs: Callable[[Tensor, Tensor], Tensor]

    def blocks(self, count: int) -> list[slice]:
        """Runs of ``count`` priors; all but the last as long as some ``_RUN``."""
        size = next(iter(blocks(count, self.boxes, self.device)), slice(0, 1)).stop
        size = -(-size // _RUN) * _RUN
        return [slice(start, min(start + size, count)) for start in range(0, count, size)]


@dataclass(frozen=True)
class Greatest:
    """What is greatest in a table.

    Attributes:
        best: of each prior the greatest overlap (n,).
        of_box: of each box the greatest overlap (m,) with a prior that is not masked, -1 if all are.
    """

    best: Tensor
    of_box: Tensor
    _table: Table
    _runs: Tensor  # (m, runs): of_box of each run of priors
    _masked: Tensor | None

    def boxes_of(self, priors: Tensor) -> Tensor:
        """The box with the greatest overlap of each of some priors, the first of equals: int64 (k,)."""
        parts = self._table.blocks(len(priors))
        found = [self._table.columns(priors[part]).argmax(dim=0) for part in parts]
        return torch.cat(found) if found else priors

    def matches(self, wanted: Tensor, all_equal: bool) -> tuple[Tensor, Tensor]:
        """(box, prior) of every pair with the greatest overlap of the box, masked priors left out.

        Args:
            wanted: bool (m,): of these boxes.
            all_equal: else the first prior of each box.
        """
        row, run = ((self._runs == self.of_box[:, None]) & wanted[:, None]).nonzero(as_tuple=True)
        column = (run[:, None] * _RUN + torch.arange(_RUN, device=row.device)).flatten()
        row, exists = row.repeat_interleave(_RUN), column < self._table.priors
        row, column = row[exists], column[exists]
        equal = self._table.pairs(row, column) == self.of_box[row]
        if self._masked is not None:
            equal &= ~self._masked[column]
        row, column = row[equal], column[equal]
        if all_equal:
            return row, column
        first = torch.full_like(self.of_box, self._table.priors, dtype=torch.int64)
        first.scatter_reduce_(0, row, column, "amin")
        found = (first < self._table.priors).nonzero().squeeze(1)
        return found, first[found]


def greatest(table: Table, masked: Tensor | None = None) -> Greatest:
    """Go through a table.

    Args:
        masked: bool (n,): priors that boxes may not take.
    """
    best = torch.empty(table.priors, device=table.device)
    runs = []
    for part in table.blocks(table.priors):
        overlaps = table.columns(part)
        best[part] = overlaps.amax(dim=0)
        if masked is not None:
            overlaps.masked_fill_(masked[part], -1)
        rest = -overlaps.shape[1] % _RUN
        overlaps = F.pad(overlaps, (0, rest), value=-1) if rest else overlaps
        runs.append(overlaps.view(table.boxes, -1, _RUN).amax(dim=2))
    found = torch.cat(runs, dim=1)
    return Greatest(best, found.amax(dim=1), table, found, masked)
