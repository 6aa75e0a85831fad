"""Stochastic depth."""

from __future__ import annotations

from torch import Tensor, nn


class DropPath(nn.Module):
    """In training, a share ``drop_prob`` of the batch becomes zero and the rest grows by as much (arXiv 1603.09382)."""

    def __init__(self, drop_prob: float = 0.1) -> None:
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.drop_prob == 0:
            return x
        kept = 1 - self.drop_prob
        return x / kept * x.new_empty((len(x), *(1,) * (x.ndim - 1))).bernoulli_(kept)


def drop_path(rate: float) -> nn.Module:
    """:class:`DropPath`, or nothing for a rate of 0."""
    return DropPath(rate) if rate > 0 else nn.Identity()
