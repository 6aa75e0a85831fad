"""FoveaBox: the middle of a box learns its class and its edges, on the levels that its size fits (arXiv 1904.03797)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from hatdet.models.mmdet import exact
from hatdet.models.mmdet.heads.base import Levels, Losses, PictureMeta, Truth
from hatdet.models.mmdet.heads.coding import Coding
from hatdet.models.mmdet.heads.common import featmap_sizes
from hatdet.models.mmdet.heads.point.anchor_free import AnchorFreeHead
from hatdet.models.mmdet.heads.prediction import Candidates
from hatdet.models.mmdet.heads.towers import concatenated, first_weights, through
from hatdet.models.mmdet.layers.conv import ConvModule
from hatdet.models.mmdet.layers.deform_conv import DeformConv2d
from hatdet.models.mmdet.layers.init import initialize
from hatdet.registry import register
from hatdet.utils.annotations import Spec

FIRST_WEIGHTS = first_weights("conv_cls")


class FeatureAlign(nn.Module):
    """Features read where predicted boxes have their edges: ``conv_offset``, ``conv_adaption``.

    Args:
        in_channels, out_channels, kernel_size: of the deformable convolution.
        deform_groups: groups of channels that move together.
        init_cfg: first weights.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        deform_groups: int = 4,
        init_cfg: Spec | list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__()
        self.conv_offset = nn.Conv2d(4, deform_groups * kernel_size * kernel_size * 2, 1, bias=False)
        self.conv_adaption = DeformConv2d(
            in_channels, out_channels, kernel_size, padding=(kernel_size - 1) // 2, deform_groups=deform_groups
        )
        self.relu = nn.ReLU(inplace=True)
        override = {"type": "Normal", "name": "conv_adaption", "std": 0.01}
        initialize(self, init_cfg or {"type": "Normal", "layer": "Conv2d", "std": 0.1, "override": override})

    def forward(self, x: Tensor, shape: Tensor) -> Tensor:
        """Features (B, C, H, W) and distances (B, 4, H, W) -> (B, C', H, W)."""
        return self.relu(self.conv_adaption(x, self.conv_offset(shape)))  # type: ignore[no-any-return]


@register(scope="mmdet")
class FoveaHead(AnchorFreeHead):
    """Raw maps: ``cls`` (B, classes, H, W) logits, ``bbox`` (B, 4, H, W).

    Edges left, top, right, bottom of the point at the centre of the cell by exp(bbox) * ``base_edge_list`` pixels;
    score sigmoid(cls). Boxes end one pixel before the picture does.

    Args:
        num_classes, in_channels, feat_channels, stacked_convs, strides, dcn_on_last_conv, conv_bias, conv_cfg,
            norm_cfg, loss_cls, loss_bbox, bbox_coder, train_cfg, test_cfg, init_cfg: see :class:`AnchorFreeHead`.
        base_edge_list: pixels of each level that distances are measured in.
        scale_ranges: of each level, square roots of areas of boxes that it learns.
        sigma: how much of a box's width and height counts as its middle.
        with_deform: classes are read where the box is (:class:`FeatureAlign`).
        deform_groups: of it.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        base_edge_list: Sequence[float] = (16, 32, 64, 128, 256),
        scale_ranges: Sequence[Sequence[float]] = ((8, 32), (16, 64), (32, 128), (64, 256), (128, 512)),
        sigma: float = 0.4,
        with_deform: bool = False,
        deform_groups: int = 4,
        init_cfg: Spec | list[dict[str, Any]] | None = FIRST_WEIGHTS,
        feat_channels: int = 256,
        stacked_convs: int = 4,
        strides: Sequence[int] = (4, 8, 16, 32, 64),
        dcn_on_last_conv: bool = False,
        conv_bias: bool | str = "auto",
        loss_cls: nn.Module | None = None,
        loss_bbox: nn.Module | None = None,
        bbox_coder: Any = None,
        conv_cfg: Spec | None = None,
        norm_cfg: Spec | None = None,
        train_cfg: dict[str, Any] | None = None,
        test_cfg: Spec | None = None,
    ) -> None:
        super().__init__(
            num_classes, in_channels, feat_channels, stacked_convs, strides, dcn_on_last_conv, conv_bias, loss_cls,
            loss_bbox, bbox_coder, conv_cfg, norm_cfg, train_cfg, test_cfg, init_cfg,
        )  # fmt: skip
        self.base_edge_list, self.scale_ranges = list(base_edge_list), [tuple(pair) for pair in scale_ranges]
        self.sigma, self.with_deform, self.deform_groups = sigma, with_deform, deform_groups
        self.build_layers()

    def _init_layers(self) -> None:
        super()._init_layers()
        if self.with_deform:
            wide = self.feat_channels * 4
            self.cls_convs = nn.ModuleList([self._wide(self.feat_channels, wide, 3), self._wide(wide, wide, 1)])
            self.feature_adaption = FeatureAlign(self.feat_channels, self.feat_channels, 3, self.deform_groups)
            self.conv_cls = nn.Conv2d(wide, self.cls_out_channels, 3, padding=1)

    def _wide(self, in_channels: int, out_channels: int, size: int) -> ConvModule:
        return ConvModule(
            in_channels, out_channels, size, padding=size // 2, conv_cfg=self.conv_cfg, norm_cfg=self.norm_cfg,
            bias=self.norm_cfg is None,
        )  # fmt: skip

    def init_weights(self) -> None:
        super().init_weights()
        if self.with_deform:  # not as the convolutions around it
            nn.init.normal_(self.feature_adaption.conv_adaption.weight, std=0.01)
            nn.init.zeros_(self.feature_adaption.conv_offset.weight)

    def forward_single(self, x: Tensor) -> tuple[Tensor, ...]:
        box = self.conv_reg(through(self.reg_convs, x))
        if self.with_deform:
            x = self.feature_adaption(x, box.exp())
        return self.conv_cls(through(self.cls_convs, x)), box

    def loss_by_feat(self, *maps: Levels, truths: Sequence[Truth], metas: Sequence[PictureMeta]) -> Losses:
        cls_scores, bbox_preds = maps
        labels, targets = self.get_targets(cls_scores, truths)
        index = (labels < self.num_classes).nonzero()[:, 0]
        boxes = concatenated(bbox_preds, 4).flatten(0, 1)
        logits = concatenated(cls_scores, self.cls_out_channels).flatten(0, 1)
        loss_cls = self.loss_cls(logits, labels, avg_factor=len(index) + len(truths))
        if not len(index):
            return {"loss_cls": loss_cls, "loss_bbox": boxes.sum() * 0}
        wanted = targets[index]
        loss_bbox = self.loss_bbox(boxes[index], wanted, torch.ones_like(wanted), avg_factor=len(index))
        return {"loss_cls": loss_cls, "loss_bbox": loss_bbox}

    def get_targets(self, maps: Levels, truths: Sequence[Truth]) -> tuple[Tensor, Tensor]:
        """Classes (B * n,) and logarithms of distances (B * n, 4) of the points of all levels, picture by picture."""
        points = self.priors_of(maps)
        labels, targets = [], []
        for truth in truths:
            for level, size in enumerate(featmap_sizes(maps)):
                classes, distances = self._level_targets(truth, level, size, points[level])
                labels.append(classes)
                targets.append(distances)
        return torch.cat(labels), torch.cat(targets)

    def _level_targets(self, truth: Truth, level: int, size: tuple[int, int], points: Tensor) -> tuple[Tensor, Tensor]:
        boxes = truth.bboxes
        lengths = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sqrt()
        low, high = self.scale_ranges[level]
        fits = (lengths >= low) & (lengths <= high)
        boxes, classes = boxes[fits], truth.labels[fits]
        if not len(boxes):
            return classes.new_full((len(points),), self.num_classes), points.new_zeros((len(points), 4))
        smallest = (-lengths[fits]).argsort(stable=True).flip(0)  # where boxes share a cell, the smallest has it
        boxes, classes = boxes[smallest], classes[smallest]
        inside = self._middles(boxes / self.strides[level], size).reshape(len(points), -1)
        hit, chosen = inside.any(dim=1), inside.to(torch.uint8).argmax(dim=1)
        box = boxes[chosen]
        distances = torch.cat((points - box[:, :2], box[:, 2:] - points), dim=1) / self.base_edge_list[level]
        distances = distances.clamp(min=1 / 16, max=16).log()
        labels = torch.where(hit, classes[chosen], self.num_classes)
        return labels, torch.where(hit[:, None], distances, 0)

    def _middles(self, boxes: Tensor, size: tuple[int, int]) -> Tensor:
        """Boxes (m, 4) in cells -> whether each cell is in their middle: bool (h, w, m)."""
        sides = []
        for axis in (1, 0):
            start, half = boxes[:, axis], 0.5 * (boxes[:, axis + 2] - boxes[:, axis])
            last = size[1 - axis] - 1
            first = torch.ceil(start + (1 - self.sigma) * half - 0.5).clamp(0, last)
            end = torch.floor(start + (1 + self.sigma) * half - 0.5).clamp(0, last)
            cell = torch.arange(last + 1, device=boxes.device)[:, None]
            sides.append((cell >= first) & (cell <= end))
        return sides[0][:, None] & sides[1][None]

    def box_values(self, values: Tensor, level: int) -> Tensor:
        return exact.exp(values) * self.base_edge_list[level]

    def coding(self) -> Coding:
        return replace(super().coding(), clip_less=1)

    def candidates(
        self,
        logits: Sequence[Tensor],
        values: Sequence[Tensor],
        factors: Sequence[Tensor] | None,
        priors: Sequence[Tensor],
        meta: PictureMeta,
        cfg: Mapping[str, Any],
    ) -> Candidates:
        height, width = meta["img_shape"][:2]
        shorter: PictureMeta = {**meta, "img_shape": (height - 1, width - 1)}
        return super().candidates(logits, values, factors, priors, shorter, cfg)
