"""An order of channels that mixes groups."""

from __future__ import annotations

from torch import Tensor


def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    """The first channels of each group, then the second ones, ... (ShuffleNet, arXiv 1707.01083, figure 1).

    (B, C, H, W) -> the same shape. In an integer model it costs nothing: the order goes into the weights around it.

    Args:
        groups: of channels; divides C.
    """
    b, c, h, w = x.shape
    return x.reshape(b, groups, c // groups, h, w).transpose(1, 2).reshape(b, c, h, w)
