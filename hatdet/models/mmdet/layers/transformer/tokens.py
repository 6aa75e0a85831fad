"""Maps (B, C, H, W) as tokens (B, H * W, C), row by row, and their normalization."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from hatdet.models.mmdet.layers.norm import build_norm
from hatdet.utils.annotations import Spec

LN: Spec = {"type": "LN"}
GELU: Spec = {"type": "GELU"}


def to_tokens(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, H * W, C); a view."""
    return x.flatten(2).transpose(1, 2)


def to_map(x: Tensor, hw: tuple[int, int]) -> Tensor:
    """(B, H * W, C) -> (B, C, H, W); a view, which lies channels last."""
    return x.transpose(1, 2).unflatten(2, hw)


def token_norm(cfg: Mapping[str, Any] | None, channels: int) -> nn.Module | None:
    """The normalization of each token; None: none.

    Raises:
        ValueError: a normalization of maps.
    """
    if cfg is None:
        return None
    norm = build_norm(cfg, channels)
    if not isinstance(norm, nn.LayerNorm):
        raise ValueError(f"norm_cfg={dict(cfg)}: tokens are normalized one by one; write dict(type='LN')")
    return norm
