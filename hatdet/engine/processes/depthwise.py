"""Depthwise convolutions in float32 while the rest of a step runs in bfloat16."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn


@contextlib.contextmanager
def depthwise_apart() -> Iterator[None]:
    """A CPU's autocast to bfloat16 that leaves depthwise 2D convolutions in float32, gradients included.

    ``nn.Conv2d`` itself is another one for as long, whoever has built it. A mode of torch's functions would do without
    touching the class, and costs some microseconds at every call of any function: a good part of what is gained.
    """
    plain = nn.Conv2d._conv_forward

    def forward(self: nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if not (_depthwise(x, weight) and torch.is_autocast_enabled("cpu")):
            return plain(self, x, weight, bias)
        with torch.autocast("cpu", enabled=False):
            return plain(self, x.float(), weight.float(), None if bias is None else bias.float())

    nn.Conv2d._conv_forward = forward  # type: ignore[method-assign, assignment]
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            yield
    finally:
        nn.Conv2d._conv_forward = plain  # type: ignore[method-assign]


def _depthwise(x: Tensor, weight: Tensor) -> bool:
    """Whether there are as many groups as channels; autocast leaves float64 and other devices alone."""
    narrow = x.device.type == "cpu" and x.dtype in (torch.float32, torch.bfloat16)
    return narrow and weight.shape[1] == 1 and x.shape[-3] > 1
