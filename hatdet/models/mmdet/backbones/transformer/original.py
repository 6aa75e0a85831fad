"""Weights of the authors' own files (github.com/whai362/PVT, github.com/microsoft/Swin-Transformer) under the names
of MMDetection's networks."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

_DROPPED = ("head.", "norm.", "cls_token")
"""Of the classifier."""


def pvt_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of PVT and PVTv2: queries and keys with values become one matrix, linear layers of the blocks 1x1 convolutions;
    the position of the class token is dropped."""
    first = int(any(name.startswith("pos_embed") for name in weights))  # a stage's blocks stand behind its positions
    last = 4 if any(".dwconv." in name for name in weights) else 3
    found: dict[str, Tensor] = {}
    for name, value in weights.items():
        if name.startswith(_DROPPED):
            continue
        part = re.fullmatch(r"(pos_embed|patch_embed|block|norm)(\d+)(?:\.(.+))?", name)
        if part is None:
            found[name] = value
            continue
        kind, stage, rest = part[1], f"layers.{int(part[2]) - 1}", part[3]
        if kind == "pos_embed":
            found[f"{stage}.1.0.pos_embed"] = value[:, value.shape[1] - math.isqrt(value.shape[1]) ** 2 :]
        elif kind == "patch_embed":
            found[f"{stage}.0.{rest.replace('proj.', 'projection.')}"] = value
        elif kind == "norm":
            found[f"{stage}.2.{rest}"] = value
        else:
            number, _, inner = rest.partition(".")
            if inner.startswith("attn.kv."):
                continue
            if inner.startswith("attn.q."):
                value = torch.cat([value, weights[name.replace(".attn.q.", ".attn.kv.")]])
            if re.fullmatch(r"mlp\.fc\d\.weight", inner):
                value = value[:, :, None, None]
            found[f"{stage}.1.{int(number) + first}.{_in_block(inner, last)}"] = value
    return found


def _in_block(name: str, last: int) -> str:
    for old, new in (
        ("attn.q.", "attn.attn.in_proj_"), ("attn.proj.", "attn.attn.out_proj."), ("mlp.fc1.", "ffn.layers.0."),
        ("mlp.dwconv.dwconv.", "ffn.layers.1."), ("mlp.fc2.", f"ffn.layers.{last}."),
    ):  # fmt: skip
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name


_SWIN = (
    (".attn.", ".attn.w_msa."), (".mlp.fc1.", ".ffn.layers.0.0."), (".mlp.fc2.", ".ffn.layers.1."),
    ("patch_embed.proj.", "patch_embed.projection."),
)  # fmt: skip


def swin_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of Swin: patches that are merged stand there column by column and pixel by pixel, here as ``nn.Unfold`` has
    them."""
    found: dict[str, Tensor] = {}
    for name, value in weights.items():
        if name.startswith(_DROPPED):
            continue
        if ".downsample." in name:
            value = _unfolded(value)
        name = re.sub(r"^layers\.", "stages.", name)
        for old, new in _SWIN:
            name = name.replace(old, new)
        found[name] = value
    return found


def _unfolded(value: Tensor) -> Tensor:
    """(..., 4 * C), pixel by pixel, those of a 2x2 patch column by column -> channel by channel, row by row."""
    channels = value.shape[-1] // 4
    return value.unflatten(-1, (2, 2, channels)).permute(*range(value.ndim - 1), -1, -2, -3).flatten(-3)


def resized_table(table: Tensor, rows: int) -> Tensor:
    """A table of biases (ways of standing to each other in a square window, heads) of another window in ``rows``
    rows."""
    old, new = math.isqrt(len(table)), math.isqrt(rows)
    square = table.t().reshape(1, -1, old, old)
    return F.interpolate(square, (new, new), mode="bicubic").flatten(2)[0].t().contiguous()
