"""What dense heads are built of: stacks of convolutions and factors of levels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from hatdet.models.mmdet.building import build
from hatdet.models.mmdet.layers.conv import ConvModule, DepthwiseSeparableConvModule
from hatdet.models.mmdet.layers.scale import Scale

INFINITE = 1e8
"""The end of the last range of sizes."""
GROUP_NORM: dict[str, Any] = {"type": "GN", "num_groups": 32, "requires_grad": True}
RELU: dict[str, Any] = {"type": "ReLU"}
FOCAL_LOSS: dict[str, Any] = {"type": "FocalLoss", "use_sigmoid": True, "gamma": 2.0, "alpha": 0.25, "loss_weight": 1.0}
BINARY_LOSS: dict[str, Any] = {"type": "CrossEntropyLoss", "use_sigmoid": True, "loss_weight": 1.0}
_Part = TypeVar("_Part")


def first_weights(classifier: str, std: float = 0.01) -> dict[str, Any]:
    """Small normal weights; the layer named ``classifier`` begins with a score of 0.01 (arXiv 1708.02002)."""
    override = {"type": "Normal", "name": classifier, "std": std, "bias_prob": 0.01}
    return {"type": "Normal", "layer": "Conv2d", "std": std, "override": override}


def part(given: _Part | None, default: Mapping[str, Any]) -> _Part:
    """A part that may have been left out."""
    return build(default) if given is None else given  # type: ignore[no-any-return]


def sigmoid_of(loss: nn.Module) -> bool:
    """Whether a loss takes each class for itself, so that the map has no channel for the background."""
    return bool(getattr(loss, "use_sigmoid", False))


def tower(
    in_channels: int,
    channels: int,
    count: int,
    *,
    conv_cfg: Mapping[str, Any] | None = None,
    norm_cfg: Mapping[str, Any] | None = None,
    act_cfg: Mapping[str, Any] | None = RELU,
    bias: bool | str = "auto",
    first_conv_cfg: Mapping[str, Any] | None = None,
    last_conv_cfg: Mapping[str, Any] | None = None,
    separable: bool = False,
) -> nn.ModuleList:
    """3x3 convolutions one after the other.

    Args:
        in_channels: of the first.
        channels: of all others.
        count: of convolutions.
        conv_cfg, norm_cfg, act_cfg, bias: of each.
        first_conv_cfg, last_conv_cfg: of the first or last in the place of ``conv_cfg``.
        separable: depthwise and pointwise.
    """
    kind = DepthwiseSeparableConvModule if separable else ConvModule
    layers = nn.ModuleList()
    for i in range(count):
        own = (first_conv_cfg if i == 0 else None) or (last_conv_cfg if i == count - 1 else None) or conv_cfg
        layers.append(
            kind(
                in_channels if i == 0 else channels, channels, 3, stride=1, padding=1, conv_cfg=own,
                norm_cfg=norm_cfg, act_cfg=act_cfg, bias=bias,
            )
        )  # fmt: skip
    return layers


def through(layers: Iterable[nn.Module], x: Tensor) -> Tensor:
    """``x`` through one layer after the other."""
    for layer in layers:
        x = layer(x)
    return x


def level_scales(count: int) -> nn.ModuleList:
    """A factor of each level, 1 at first."""
    return nn.ModuleList([Scale(1.0) for _ in range(count)])


def scaled(levels: Sequence[Tensor], scales: nn.ModuleList) -> list[Tensor]:
    """Each level times its factor."""
    return [scale(level).float() for scale, level in zip(scales, levels, strict=True)]


def kind_after_kind(levels: Iterable[Sequence[Tensor]]) -> tuple[Tensor, ...]:
    """The maps of each level, kind by kind -> flat, all levels of the first kind first."""
    return tuple(level for kind in zip(*levels, strict=True) for level in kind)


def concatenated(levels: Sequence[Tensor], channels: int) -> Tensor:
    """(B, A * channels, H_i, W_i) -> (B, sum of H_i W_i A, channels)."""
    flat = [level.permute(0, 2, 3, 1).reshape(level.shape[0], -1, channels) for level in levels]
    return torch.cat(flat, dim=1)


def at_levels(values: Sequence[float] | Tensor, counts: Sequence[int], like: Tensor) -> Tensor:
    """A number (or row of numbers) of each level -> one of each of its ``counts`` priors."""
    rows = torch.as_tensor(values, dtype=like.dtype, device=like.device)
    return rows.repeat_interleave(torch.as_tensor(counts, device=like.device), dim=0)
