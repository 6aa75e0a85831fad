"""Dropping regions of a map (arXiv 1810.12890)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hatdet.registry import register


@register(scope="mmdet")
class DropBlock(nn.Module):
    """Sets square regions to zero while it trains, and scales what is left so that the mean stays; else the identity.

    Args:
        drop_prob: share of a map that is dropped.
        block_size: side of a region, odd.
        warmup_iters: over so many calls the share grows from 0.
    """

    plugin_name = "drop_block"

    def __init__(self, drop_prob: float, block_size: int, warmup_iters: int = 2000) -> None:
        super().__init__()
        if block_size % 2 != 1 or not 0 < drop_prob <= 1 or warmup_iters < 0:
            raise ValueError(
                f"drop_prob={drop_prob}, block_size={block_size}, warmup_iters={warmup_iters}: give a share in (0, 1], "
                "an odd side and a number that is not negative"
            )
        self.drop_prob, self.block_size, self.warmup_iters = drop_prob, block_size, warmup_iters
        self.iter_cnt = 0

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        if not self.training:
            return x
        self.iter_cnt += 1
        side, (height, width) = self.block_size, x.shape[2:]
        centres = (height - side + 1, width - side + 1)
        if min(centres) < 1:
            raise ValueError(f"block_size={side} is larger than a map of {height} x {width}; make it smaller")
        share = self.drop_prob * height * width / (centres[0] * centres[1]) / side**2
        if self.iter_cnt <= self.warmup_iters:
            share *= self.iter_cnt / self.warmup_iters
        seeds = torch.bernoulli(torch.full((*x.shape[:2], *centres), min(share, 1.0), device=x.device))
        dropped = F.max_pool2d(F.pad(seeds, [side // 2] * 4), side, stride=1, padding=side // 2)
        kept = 1 - dropped
        return x * kept * kept.numel() / (kept.sum() + 1e-6)
