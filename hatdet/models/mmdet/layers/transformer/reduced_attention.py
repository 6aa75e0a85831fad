"""Attention of every token to a smaller map (PVT, arXiv 2102.12122, section 3.3)."""

from __future__ import annotations

from torch import Tensor, nn

from hatdet.models.mmdet.layers.csp.drop_path import drop_path
from hatdet.models.mmdet.layers.transformer.tokens import LN, to_map, to_tokens, token_norm
from hatdet.utils.annotations import Spec


class SpatialReductionAttention(nn.Module):
    """``identity`` + attention (``attn``) of all tokens to those of the map that a convolution reduces (``sr``,
    ``norm``).

    Args:
        embed_dims, num_heads: channels of a token, and heads that share them.
        attn_drop: dropout of the weights of the sum.
        proj_drop: dropout of what comes out.
        drop_path_rate: stochastic depth.
        qkv_bias: all linear layers of the attention have a bias, that of the output, too.
        norm_cfg: of the reduced tokens.
        sr_ratio: rows and columns of the map for one of the reduced map; 1: no reduction.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
        drop_path_rate: float = 0.0,
        qkv_bias: bool = True,
        norm_cfg: Spec = LN,
        sr_ratio: int = 1,
    ) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(embed_dims, num_heads, attn_drop, bias=qkv_bias)
        self.proj_drop, self.drop_path = nn.Dropout(proj_drop), drop_path(drop_path_rate)
        self.sr = self.norm = None
        if sr_ratio > 1:
            self.sr = nn.Conv2d(embed_dims, embed_dims, sr_ratio, sr_ratio)
            self.norm = token_norm(norm_cfg, embed_dims)

    def forward(self, x: Tensor, hw: tuple[int, int], identity: Tensor) -> Tensor:
        seen = x
        if self.sr is not None and self.norm is not None:
            seen = self.norm(to_tokens(self.sr(to_map(x, hw))))
        query, key = x.transpose(0, 1), seen.transpose(0, 1)  # tokens first: one arithmetic in training and evaluation
        out = self.attn(query, key, key, need_weights=False)[0].transpose(0, 1)
        summed: Tensor = identity + self.drop_path(self.proj_drop(out))
        return summed
