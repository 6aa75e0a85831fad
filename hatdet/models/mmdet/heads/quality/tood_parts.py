"""Parts of TOOD's head: features of one task, and sides that are read elsewhere (arXiv 2108.07755)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hatdet.models.mmdet.heads.assignment import Targets
from hatdet.models.mmdet.layers.conv import ConvModule
from hatdet.models.mmdet.layers.deform_conv import deform_conv2d
from hatdet.models.mmdet.layers.init import normal_init


class TaskDecomposition(nn.Module):
    """Features of one task: those of all layers of the stack, each layer times an attention, through a 1x1
    convolution.

    (B, stacked_convs * feat_channels, H, W) -> (B, feat_channels, H, W).

    Args:
        feat_channels: of each layer.
        stacked_convs: how many layers.
        la_down_rate: by how much the attention narrows its input.
        conv_cfg, norm_cfg: of the convolution, of which the weights count, not the kind; without normalization its bias
            has no meaning.
    """

    def __init__(
        self,
        feat_channels: int,
        stacked_convs: int,
        la_down_rate: int = 8,
        conv_cfg: Mapping[str, Any] | None = None,
        norm_cfg: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.feat_channels, self.stacked_convs = feat_channels, stacked_convs
        self.in_channels = feat_channels * stacked_convs
        narrow = self.in_channels // la_down_rate
        self.layer_attention = nn.Sequential(
            nn.Conv2d(self.in_channels, narrow, 1), nn.ReLU(inplace=True), nn.Conv2d(narrow, stacked_convs, 1),
            nn.Sigmoid(),
        )  # fmt: skip
        self.reduction_conv = ConvModule(
            self.in_channels, feat_channels, 1, conv_cfg=conv_cfg, norm_cfg=norm_cfg, bias=norm_cfg is None
        )
        self.as_it_is = norm_cfg is not None and type(self.reduction_conv.conv) is nn.Conv2d

    def init_weights(self) -> None:
        """Small normal weights."""
        for module in self.layer_attention:
            if isinstance(module, nn.Conv2d):
                normal_init(module, std=0.001)
        normal_init(self.reduction_conv.conv, std=0.01)

    def forward(self, feat: Tensor, avg_feat: Tensor | None = None) -> Tensor:
        """Features, and their means (B, C, 1, 1) if they are known."""
        if avg_feat is None:
            avg_feat = F.adaptive_avg_pool2d(feat, (1, 1))
        # Of a convolution whose weights are different in each picture: its input is, and its weights are not.
        feat = feat * self.layer_attention(avg_feat).repeat_interleave(self.feat_channels, dim=1)
        if self.as_it_is:
            return self.reduction_conv(feat)  # type: ignore[no-any-return]
        feat = F.conv2d(feat, self.reduction_conv.conv.weight)  # type: ignore[arg-type]
        norm = self.reduction_conv.norm
        return self.reduction_conv.activate(feat if norm is None else norm(feat))  # type: ignore[no-any-return]


def aligned_sides(boxes: Tensor, shifts: Tensor) -> Tensor:
    """Boxes (B, 4, H, W), each edge read (y, x) of ``shifts`` (B, 8, H, W) cells away."""
    if boxes.requires_grad or shifts.requires_grad:
        read = deform_conv2d(boxes.contiguous(), shifts, boxes.new_ones(4, 1, 1, 1), groups=4, deform_groups=4)
    else:
        read = read_between(boxes, shifts)
    wrong = (read[:, :2] > read[:, 2:]).any(dim=1, keepdim=True)
    return torch.where(wrong, boxes, read)


def read_between(maps: Tensor, shifts: Tensor) -> Tensor:
    """Each map (B, n, H, W) at (y, x) of ``shifts`` (B, 2 n, H, W) positions away, between four positions; 0 outside.
    Its steps are those of the decoders, one after the other in float32."""
    b, n, height, width = maps.shape
    down, right = shifts.unflatten(1, (n, 2)).unbind(2)
    y = down + torch.arange(height, device=maps.device, dtype=maps.dtype)[:, None]
    x = right + torch.arange(width, device=maps.device, dtype=maps.dtype)
    top, left = y.floor(), x.floor()
    wy, wx = y - top, x - left
    flat = maps.flatten(2)

    def at(row: Tensor, column: Tensor) -> Tensor:
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        index = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
        return torch.where(inside, flat.gather(2, index.long().flatten(2)).view(b, n, height, width), 0)

    upper = at(top, left) * (1 - wx) + at(top, left + 1) * wx
    lower = at(top + 1, left) * (1 - wx) + at(top + 1, left + 1) * wx
    return upper * (1 - wy) + lower * wy


def normalized_alignment(targets: Targets, boxes: int) -> Tensor:
    """How well priors (n,) do for their box: 0 to the best overlap that any of the box's priors has; 0 elsewhere."""
    assert targets.metrics is not None and targets.overlaps is not None
    found = targets.found.clamp(min=0)
    best = targets.metrics.new_zeros((2, max(boxes, 1)))
    for row, values in enumerate((targets.metrics, targets.overlaps)):
        best[row].scatter_reduce_(0, found, torch.where(targets.positive, values, 0), "amax")
    return torch.where(targets.positive, targets.metrics / (best[0] + 1e-7)[found] * best[1][found], 0)
