"""Attention in its parts (An Empirical Study of Spatial Attention Mechanisms in Deep Networks, arXiv 1904.05873)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hatdet.models.mmdet.layers.init import kaiming_init
from hatdet.registry import register

_LONGEST = {256: 84, 512: 42}
"""Sides of the largest map where attention is limited in range: those of a picture of 1333 pixels, by its channels."""


@register(scope="mmdet")
class GeneralizedAttention(nn.Module):
    """To each position a mean over others is added; which terms make its weights is said by four digits.

    State: ``query_conv``, ``key_conv``, ``value_conv``, ``appr_geom_fc_x``, ``appr_geom_fc_y``, ``appr_bias``,
    ``geom_bias``, ``proj_conv``, ``gamma``, ``local_constraint_map``.

    Args:
        in_channels: of the map.
        spatial_range: farthest position that is looked at, after a 3x3 convolution of 256 or 512 channels; -1: all.
        num_heads: means with weights of their own.
        position_embedding_dim: numbers that describe a distance; -1: ``in_channels``.
        position_magnitude: factor of distances.
        kv_stride, q_stride: every so many-th position is looked at, and looks.
        attention_type: whether the terms of (query and key content), (query content and distance), (key content alone),
            (distance alone) are there: ``1111`` all, ``0010`` the key content alone.
    """

    plugin_name = "gen_attention_block"
    keeps_init = True
    one_operator = True  # a quantizer refuses it by its name, not by what it is made of

    def __init__(
        self,
        in_channels: int,
        spatial_range: int = -1,
        num_heads: int = 9,
        position_embedding_dim: int = -1,
        position_magnitude: int = 1,
        kv_stride: int = 2,
        q_stride: int = 1,
        attention_type: str = "1111",
    ) -> None:
        super().__init__()
        if len(attention_type) != 4 or set(attention_type) - {"0", "1"} or "1" not in attention_type:
            raise ValueError(f"attention_type={attention_type!r}: write four digits of 0 and 1, not all 0")
        if spatial_range >= 0 and in_channels not in _LONGEST:
            raise ValueError(f"spatial_range={spatial_range} needs 256 or 512 channels, got {in_channels}; write -1")
        self.content, self.query_distance, self.key, self.distance = (digit == "1" for digit in attention_type)
        self.num_heads, self.channels = num_heads, in_channels // num_heads
        self.position_embedding_dim = position_embedding_dim if position_embedding_dim > 0 else in_channels
        self.position_magnitude, self.spatial_range = position_magnitude, spatial_range
        self.kv_stride, self.q_stride = kv_stride, q_stride
        inside = self.channels * num_heads
        if self.content or self.query_distance:
            self.query_conv = nn.Conv2d(in_channels, inside, 1, bias=False)
        if self.content or self.key:
            self.key_conv = nn.Conv2d(in_channels, inside, 1, bias=False)
        self.value_conv = nn.Conv2d(in_channels, inside, 1, bias=False)
        if self.query_distance or self.distance:
            self.appr_geom_fc_x = nn.Linear(self.position_embedding_dim // 2, inside, bias=False)
            self.appr_geom_fc_y = nn.Linear(self.position_embedding_dim // 2, inside, bias=False)
        bound = 1 / math.sqrt(self.channels * 2)
        if self.key:
            self.appr_bias = nn.Parameter(torch.empty(inside).uniform_(-bound, bound))
        if self.distance:
            self.geom_bias = nn.Parameter(torch.empty(inside).uniform_(-bound, bound))
        self.proj_conv = nn.Conv2d(inside, in_channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))
        if spatial_range >= 0:
            far = _far(_LONGEST[in_channels], spatial_range, kv_stride)
            self.local_constraint_map = nn.Parameter(far, requires_grad=False)
        for module in self.children():
            kaiming_init(module, a=1, mode="fan_in", nonlinearity="leaky_relu", distribution="uniform")

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        looking = x[:, :, :: self.q_stride, :: self.q_stride]
        seen = x[:, :, :: self.kv_stride, :: self.kv_stride]
        (rows, columns), keys = looking.shape[2:], seen.shape[2:].numel()
        energy = self._energy(looking, seen)
        if self.spatial_range >= 0:
            far = self.local_constraint_map[:rows, :columns, : seen.shape[2], : seen.shape[3]]
            energy = energy.masked_fill(far.reshape(1, 1, rows * columns, keys).bool(), float("-inf"))
        values = self.value_conv(seen).view(len(x), self.num_heads, self.channels, keys)
        means = torch.matmul(values, energy.softmax(dim=3).transpose(2, 3))  # (B, heads, C', queries)
        if means.shape[3] == 1:  # the same for every position
            rows = columns = 1
        out = self.proj_conv(means.reshape(len(x), -1, rows, columns))
        if self.q_stride > 1:
            out = F.interpolate(out, size=x.shape[2:], mode="bilinear", align_corners=False)
        return self.gamma * out + x

    def _heads(self, flat: Tensor) -> Tensor:
        """(B, heads * C', positions) -> (B, heads, positions, C')."""
        return flat.view(len(flat), self.num_heads, self.channels, -1).transpose(2, 3)

    def _energy(self, looking: Tensor, seen: Tensor) -> Tensor:
        """Logarithms of weights, (B, heads, queries, keys); one query stands for all where they do not differ."""
        terms: list[Tensor] = []
        queries = self._heads(self.query_conv(looking).flatten(2)) if self.content or self.query_distance else None
        if self.content or self.key:
            keys = self._heads(self.key_conv(seen).flatten(2))
            asked = self._asked(queries if self.content else None, self.appr_bias if self.key else None)
            terms.append(torch.matmul(asked, keys.transpose(2, 3)))
        if self.query_distance or self.distance:
            asked = self._asked(queries if self.query_distance else None, self.geom_bias if self.distance else None)
            terms.append(self._distance_term(asked, looking, seen))
        energy = sum(terms[1:], terms[0])
        if energy.shape[2] == 1 and self.spatial_range >= 0:
            energy = energy.expand(-1, -1, looking.shape[2] * looking.shape[3], -1)
        return energy

    def _asked(self, queries: Tensor | None, bias: Tensor | None) -> Tensor:
        """What is compared: queries, what stands for all queries, or their sum."""
        if bias is None:
            assert queries is not None
            return queries
        bias = bias.view(1, self.num_heads, 1, self.channels)
        return bias if queries is None else queries + bias

    def _distance_term(self, asked: Tensor, looking: Tensor, seen: Tensor) -> Tensor:
        (h, w), (kh, kw) = looking.shape[2:], seen.shape[2:]
        right = self._embedded(w, kw, looking, self.appr_geom_fc_x)  # (heads, w, kw, C')
        down = self._embedded(h, kh, looking, self.appr_geom_fc_y)
        asked = asked.expand(-1, -1, h * w, -1).reshape(len(asked), self.num_heads, h, w, self.channels)
        across = torch.einsum("bnyxc,nxkc->bnyxk", asked, right).unsqueeze(4)
        along = torch.einsum("bnyxc,nykc->bnyxk", asked, down).unsqueeze(5)
        return (across + along).reshape(len(asked), self.num_heads, h * w, kh * kw)

    def _embedded(self, queries: int, keys: int, like: Tensor, layer: nn.Linear) -> Tensor:
        """Distances on one axis as sines and cosines of several waves, through a layer."""
        quarter = self.position_embedding_dim / 4
        waves = 1000 ** (torch.arange(0, quarter, dtype=like.dtype, device=like.device) / quarter)
        at = torch.arange(queries, dtype=like.dtype, device=like.device).view(-1, 1, 1) * self.q_stride
        distance = at - torch.arange(keys, dtype=like.dtype, device=like.device).view(1, -1, 1) * self.kv_stride
        phases = distance * self.position_magnitude / waves
        told = layer(torch.cat([phases.sin(), phases.cos()], dim=2)) / math.sqrt(2)
        return told.view(queries, keys, self.num_heads, self.channels).permute(2, 0, 1, 3)


def _far(side: int, reach: int, stride: int) -> Tensor:
    """uint8 (side, side, keys, keys): 1 where a key is too far from a query."""
    keys = int((side - 1) / stride + 1)
    at, key = torch.arange(side).view(-1, 1), torch.arange(keys).view(1, -1)
    first = torch.div(at - reach, stride, rounding_mode="floor").clamp(min=0)
    last = torch.div(at + reach + 1, stride, rounding_mode="floor")
    near = (key >= first) & (key <= last)
    return (~(near.view(side, 1, keys, 1) & near.view(1, side, 1, keys))).to(torch.uint8)
