"""PicoDet's head (arXiv 2111.00902), in the forms of both releases."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from hatdet.models.layers.conv import ConvModule, DepthwiseSeparableConvModule
from hatdet.models.light.distribution_head import DistributionPointHead, Wanted
from hatdet.models.mmdet import exact
from hatdet.models.mmdet.assigners.dynamic_k import DynamicSoftLabelAssigner, SimOTAAssigner
from hatdet.models.mmdet.heads.assignment import Targets, assign
from hatdet.models.mmdet.heads.base import Detections, Levels, PictureMeta, Truth
from hatdet.models.mmdet.heads.coding import Address, Coding
from hatdet.models.mmdet.heads.common import flatten, reduce_mean
from hatdet.models.mmdet.heads.geometric import inverse_sigmoid, sigmoid_geometric_mean
from hatdet.models.mmdet.heads.quality.tood_parts import normalized_alignment
from hatdet.models.mmdet.heads.towers import kind_after_kind, part
from hatdet.models.mmdet.layers.init import bias_init_with_prob, normal_init
from hatdet.models.mmdet.overlaps import bbox_overlaps
from hatdet.registry import register
from hatdet.utils.annotations import Spec

VARIFOCAL = {"type": "VarifocalLoss", "use_sigmoid": True, "alpha": 0.75, "gamma": 2.0, "iou_weighted": True}
GIOU = {"type": "GIoULoss", "loss_weight": 2.5}
DISTRIBUTION = {"type": "DistributionFocalLoss", "loss_weight": 0.5}


class PicoSE(nn.Module):
    """``x * sigmoid(fc(mean(x)))`` through ``conv``: (B, channels, H, W), whose shape stays."""

    def __init__(self, channels: int, activation: str) -> None:
        super().__init__()
        self.global_avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Conv2d(channels, channels, 1)
        self.sigmoid = nn.Sigmoid()
        self.conv = ConvModule(channels, channels, 1, activation=activation)
        normal_init(self.fc, std=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x * self.sigmoid(self.fc(self.global_avgpool(x))))  # type: ignore[no-any-return]


@register
class PicoHead(DistributionPointHead):
    """Raw maps: ``cls`` (B, classes, H, W) logits, ``bbox`` (B, 4 * (reg_max + 1), H, W) and, with ``align``, ``align``
    (B, 1, H, W) logits.

    Each level has a stack of depthwise separable convolutions (``cls_convs``), of which both kinds of maps come; with
    ``channel_attention`` through ``se``. Boxes: see :class:`DistributionPointHead`; points are the centres of cells.
    Scores are sigmoid(cls), or sqrt(sigmoid(cls) * sigmoid(align)): ``cls_align`` sees the stack alone.

    The first release is ``align=False, channel_attention=False`` with ``SimOTAAssigner``; the second has both, and
    ``TaskAlignedAssigner`` after ``initial_epoch`` epochs of ``initial_assigner`` (ATSS). What a class learns is the
    quality of its prior: the overlap, or with ``TaskAlignedAssigner`` the normalized alignment; it is the weight of the
    losses of boxes, too. The published network's ``head_cls`` of the first release gives boxes too; here, so that their
    integers have scales of their own, ``head_reg`` does.

    Args:
        num_classes: of foreground.
        in_channels: of the feature maps and of the stacks.
        strides: of the levels in pixels.
        stacked_convs: depthwise separable convolutions of each level.
        kernel_size: of their depthwise ones, and of ``cls_align``.
        reg_max: the farthest an edge may be, in strides.
        channel_attention, align: see above.
        activation: class name of ``torch.nn``.
        cell_scale: sides of the squares that ATSS chooses among, in strides.
        loss_cls, loss_bbox, loss_dfl: built losses.
        train_cfg: built ``assigner``; ``initial_epoch`` and built ``initial_assigner``; ``alpha`` and ``beta`` of
            ``TaskAlignedAssigner``.
        test_cfg: see :class:`DistributionPointHead`.

    Attributes:
        epoch: of training, from 0, set by whoever trains from the beginning (``SetEpochInfo``); else it is past the
            initial ones, as in quantization-aware training.
    """

    refined_with = ()

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int,
        strides: Sequence[int] = (8, 16, 32, 64),
        stacked_convs: int = 2,
        kernel_size: int = 5,
        reg_max: int = 7,
        channel_attention: bool = True,
        align: bool = True,
        activation: str = "Hardswish",
        cell_scale: float = 5.0,
        loss_cls: nn.Module | None = None,
        loss_bbox: nn.Module | None = None,
        loss_dfl: nn.Module | None = None,
        train_cfg: Mapping[str, Any] | None = None,
        test_cfg: Spec | None = None,
    ) -> None:
        super().__init__(
            num_classes=num_classes, in_channels=in_channels, strides=strides, reg_max=reg_max, offset=0.5,
            loss_cls=part(loss_cls, VARIFOCAL), loss_bbox=part(loss_bbox, GIOU), loss_dfl=part(loss_dfl, DISTRIBUTION),
            train_cfg=train_cfg, test_cfg=test_cfg,
        )  # fmt: skip
        self.channel_attention, self.align, self.cell_scale = channel_attention, align, cell_scale
        self.kinds = ("cls", "bbox", "align") if align else ("cls", "bbox")
        self.epoch = self.initial_epoch = (train_cfg or {}).get("initial_epoch", 0)
        width, act = in_channels, activation
        self.cls_convs, self.se, self.cls_align = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for _ in strides:
            self.cls_convs.append(
                nn.Sequential(
                    *(
                        DepthwiseSeparableConvModule(width, width, kernel_size, activation=act)
                        for _ in range(stacked_convs)
                    )
                )
            )
            self.se.append(PicoSE(width, act) if channel_attention else nn.Identity())
            if align:
                narrow = ConvModule(width, 1, kernel_size, activation=act)
                self.cls_align.append(nn.Sequential(narrow, ConvModule(1, 1, 1, activation=None)))
        self.head_cls = nn.ModuleList(nn.Conv2d(width, num_classes, 1) for _ in strides)
        self.head_reg = nn.ModuleList(nn.Conv2d(width, self.box_channels, 1) for _ in strides)
        for cls, reg in zip(self.head_cls, self.head_reg, strict=True):
            normal_init(cls, std=0.01, bias=bias_init_with_prob(0.01))
            normal_init(reg, std=0.01)

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return kind_after_kind([self._level(x, level) for level, x in enumerate(feats)])

    def _level(self, x: Tensor, level: int) -> tuple[Tensor, ...]:
        x = self.cls_convs[level](x)
        both = self.se[level](x)
        maps = (self.head_cls[level](both), self.head_reg[level](both))
        return (*maps, self.cls_align[level](x)) if self.align else maps

    def refine(self, *maps: Levels) -> tuple[Any, ...]:
        """Logits of scores, and ``bbox``."""
        if len(maps) < 3:
            return maps
        logits = [inverse_sigmoid(sigmoid_geometric_mean(c, a)) for c, a in zip(maps[0], maps[2], strict=True)]
        return logits, maps[1]

    def predict(
        self,
        *maps: Levels,
        metas: Sequence[PictureMeta],
        cfg: Mapping[str, Any] | None = None,
        rescale: bool = False,
    ) -> list[Detections]:
        """Of raw maps: scores are roots of products, which a decoder finds too, not sigmoids of their logits."""
        return self.predict_by_feat(*maps, metas=metas, cfg=cfg, rescale=rescale)

    def scores_of(self, logits: Tensor, factors: Tensor | None) -> tuple[Tensor, Tensor | None]:
        scores = self.class_scores(logits)
        return (scores, None) if factors is None else (exact.sqrt(scores * self.score_factors(factors)[:, None]), None)

    def boxes_and_scores(self, *maps: Levels) -> tuple[Tensor, Tensor]:
        boxes, scores = super().boxes_and_scores(*maps[:2])
        if not self.align:
            return boxes, scores
        factors = torch.cat([self.score_factors(flatten(level, 1)) for level in maps[2]], dim=1)
        return boxes, exact.sqrt(scores * factors)

    def coding(self) -> Coding:
        known = super().coding()
        return replace(known, factor=Address(2, 0, 1), early=True, root=True) if self.align else known

    def assign_one(self, points: Tensor, logits: Tensor, boxes: Tensor, truth: Truth, counts: Sequence[int]) -> Targets:
        cfg = self.train_cfg
        assert cfg is not None
        assigner = cfg["initial_assigner" if self.epoch < self.initial_epoch else "assigner"]
        half = points[:, 2:] * (self.cell_scale / 2)
        squares = torch.cat((points[:, :2] - half, points[:, :2] + half), dim=1)
        predictions = {
            "priors": points if isinstance(assigner, (SimOTAAssigner, DynamicSoftLabelAssigner)) else squares,
            "scores": logits if isinstance(assigner, DynamicSoftLabelAssigner) else logits.sigmoid(),
            "bboxes": boxes,
        }
        known = inspect.signature(assigner.assign).parameters
        powers = {name: cfg[name] for name in ("alpha", "beta") if name in cfg and name in known}
        return assign(
            assigner, cfg.get("sampler"), predictions, truth, num_classes=self.num_classes, counts=counts, **powers
        )

    def quality_of(self, targets: Targets, boxes: Tensor, count: int) -> Tensor:
        if targets.metrics is not None:
            return normalized_alignment(targets, count)
        return bbox_overlaps(boxes, targets.boxes, is_aligned=True)

    def box_weights(self, logits: Tensor, wanted: Wanted) -> Tensor:
        return wanted.quality[wanted.index]

    def class_loss(self, logits: Tensor, wanted: Wanted) -> Tensor:
        quality = torch.zeros_like(logits)
        quality[wanted.index, wanted.labels[wanted.index]] = wanted.quality[wanted.index]
        total = reduce_mean(wanted.quality.sum()).clamp(min=1).item()
        return self.loss_cls(logits, quality, avg_factor=total)  # type: ignore[no-any-return]
