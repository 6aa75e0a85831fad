"""A factor that is learned."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Scale(nn.Module):
    """The input times one number: ``scale``.

    Args:
        scale: its first value.
    """

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale, dtype=torch.float))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale
