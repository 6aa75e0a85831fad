"""Attention inside of windows that shift from block to block (Swin, arXiv 2103.14030, section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hatdet.models.mmdet.layers.csp.drop_path import drop_path

_APART = -100.0
"""Added to the logit of a pair that must not see each other."""


def window_partition(x: Tensor, size: int) -> Tensor:
    """(B, H, W, C) -> (B * windows, size * size, C), windows row by row; H and W are multiples of ``size``."""
    batch, height, width, channels = x.shape
    parts = x.view(batch, height // size, size, width // size, size, channels)
    return parts.transpose(2, 3).reshape(-1, size * size, channels)


def window_reverse(windows: Tensor, size: int, height: int, width: int) -> Tensor:
    """(B * windows, size * size, C) -> (B, H, W, C)."""
    parts = windows.view(-1, height // size, width // size, size, size, windows.shape[-1])
    return parts.transpose(2, 3).reshape(-1, height, width, windows.shape[-1])


def relative_positions(height: int, width: int) -> Tensor:
    """(N, N) rows of the table of biases, N = ``height * width``: (rows apart, columns apart) counted through."""
    index = torch.arange(height * width)
    rows, columns = index // width, index % width
    down = rows[:, None] - rows + height - 1
    return down * (2 * width - 1) + columns[:, None] - columns + width - 1


def shift_mask(height: int, width: int, size: int, shift: int, device: torch.device | None = None) -> Tensor:
    """(windows, N, N), N = ``size * size``: 0 for tokens of a window that were neighbours before the map was rolled by
    ``shift`` rows and columns, -100 for others."""
    rows, columns = (torch.arange(side, device=device) for side in (height, width))
    part = [(at >= len(at) - size).int() + (at >= len(at) - shift).int() for at in (rows, columns)]
    region = window_partition((3 * part[0][:, None] + part[1])[None, :, :, None], size)[..., 0]
    apart = region[:, :, None] != region[:, None, :]
    return torch.zeros(apart.shape, device=device).masked_fill_(apart, _APART)


class WindowMSA(nn.Module):
    """Attention of N tokens to each other, with a learned bias for each way of standing to each other.

    Args:
        embed_dims, num_heads: channels of a token, and heads that share them.
        window_size: rows and columns of a window.
        qkv_bias: of the layer that makes queries, keys and values.
        qk_scale: factor of the logits; None: 1 / sqrt(channels of a head).
        attn_drop_rate: dropout of the weights of the sum.
        proj_drop_rate: dropout of what comes out.

    Raises:
        ValueError: channels that the heads cannot share.
    """

    relative_position_index: Tensor

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        window_size: tuple[int, int],
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        attn_drop_rate: float = 0.0,
        proj_drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        if embed_dims % num_heads:
            raise ValueError(f"{num_heads} heads cannot share {embed_dims} channels; mend num_heads or embed_dims")
        self.num_heads, self.attn_drop_rate = num_heads, attn_drop_rate
        self.scale = qk_scale or (embed_dims // num_heads) ** -0.5
        height, width = window_size
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * height - 1) * (2 * width - 1), num_heads))
        self.register_buffer("relative_position_index", relative_positions(height, width))
        self.qkv = nn.Linear(embed_dims, embed_dims * 3, bias=qkv_bias)
        self.proj = nn.Linear(embed_dims, embed_dims)
        self.proj_drop = nn.Dropout(proj_drop_rate)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B * windows, N, C) -> the same; ``mask`` (windows, N, N) is added to the logits."""
        count, tokens, channels = x.shape
        bias = self.relative_position_bias_table[self.relative_position_index.flatten()]
        bias = bias.view(1, tokens, tokens, self.num_heads).permute(0, 3, 1, 2)
        qkv = self.qkv(x).view(count, tokens, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        if mask is not None:  # windows and heads as one dimension: then a picture's bias serves all pictures
            bias = (bias + mask[:, None]).flatten(0, 1)[None]
            qkv = qkv.reshape(3, count // len(mask), len(mask) * self.num_heads, tokens, -1)
        query, key, value = qkv.unbind(0)
        drop = self.attn_drop_rate if self.training else 0.0
        out = F.scaled_dot_product_attention(query, key, value, bias.to(query.dtype), drop, scale=self.scale)
        out = out.reshape(count, self.num_heads, tokens, -1).transpose(1, 2).reshape(count, tokens, channels)
        projected: Tensor = self.proj_drop(self.proj(out))
        return projected


class ShiftWindowMSA(nn.Module):
    """Attention (``w_msa``) inside the windows of a map, which is filled up with zeros to whole ones and rolled.

    Args:
        embed_dims, num_heads, qkv_bias, qk_scale, attn_drop_rate, proj_drop_rate: see :class:`WindowMSA`.
        window_size: rows and columns of a window.
        shift_size: rows and columns by which the map is rolled; tokens that then share a window and come from opposite
            borders do not see each other.
        drop_path_rate: stochastic depth.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        window_size: int,
        shift_size: int = 0,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        attn_drop_rate: float = 0.0,
        proj_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.window_size, self.shift_size = window_size, shift_size
        self.w_msa = WindowMSA(
            embed_dims, num_heads, (window_size, window_size), qkv_bias, qk_scale, attn_drop_rate, proj_drop_rate
        )
        self.drop_path = drop_path(drop_path_rate)

    def forward(self, x: Tensor, hw: tuple[int, int]) -> Tensor:
        """(B, H * W, C) and (H, W) -> (B, H * W, C)."""
        (height, width), size, shift = hw, self.window_size, self.shift_size
        grid = F.pad(x.unflatten(1, hw), (0, 0, 0, -width % size, 0, -height % size))
        mask = None
        if shift:
            grid = grid.roll((-shift, -shift), (1, 2))
            mask = shift_mask(grid.shape[1], grid.shape[2], size, shift, x.device)
        windows = self.w_msa(window_partition(grid, size), mask)
        grid = window_reverse(windows, size, grid.shape[1], grid.shape[2])
        if shift:
            grid = grid.roll((shift, shift), (1, 2))
        out: Tensor = self.drop_path(grid[:, :height, :width].flatten(1, 2))
        return out
