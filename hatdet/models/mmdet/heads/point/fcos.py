"""FCOS: each point says the class of a box that it lies in and the distances to its edges (arXiv 1904.01355)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hatdet.models.mmdet import exact
from hatdet.models.mmdet.heads.base import Levels, Losses, PictureMeta, Truth
from hatdet.models.mmdet.heads.common import reduce_mean
from hatdet.models.mmdet.heads.point.anchor_free import AnchorFreeHead
from hatdet.models.mmdet.heads.point.fcos_targets import centerness_of, fcos_targets
from hatdet.models.mmdet.heads.towers import (
    BINARY_LOSS,
    GROUP_NORM,
    INFINITE,
    at_levels,
    concatenated,
    first_weights,
    level_scales,
    part,
    scaled,
    through,
)  # fmt: skip
from hatdet.models.mmdet.layers.conv import build_conv
from hatdet.registry import register
from hatdet.utils.annotations import Spec

RANGES: tuple[tuple[float, float], ...] = ((-1, 64), (64, 128), (128, 256), (256, 512), (512, INFINITE))

FIRST_WEIGHTS = first_weights("conv_cls")


@register(scope="mmdet")
class FCOSHead(AnchorFreeHead):
    """Raw maps: ``cls`` (B, classes, H, W) logits, ``bbox`` (B, 4, H, W), ``centerness`` (B, 1, H, W) logits.

    Distances to the left, top, right and bottom edges: exp(scale * raw) pixels, or with ``norm_on_bbox``
    max(scale * raw, 0) strides (in training in strides, else in pixels, after :meth:`refine`). The box is the point
    at the centre of the cell less and plus the distances, the score sigmoid(cls) * sigmoid(centerness).

    Args:
        num_classes, in_channels, feat_channels, stacked_convs, strides, dcn_on_last_conv, conv_bias, conv_cfg,
            norm_cfg, loss_cls, loss_bbox, bbox_coder, train_cfg, test_cfg, init_cfg: see :class:`AnchorFreeHead`.
        regress_ranges: of each level, the least and largest distance that a box's farthest edge may have.
        center_sampling: only points near the centre learn a box.
        center_sample_radius: how near, in strides.
        norm_on_bbox: distances in strides, without an exponential.
        centerness_on_reg: the centerness comes of the stack of boxes, not of classes.
        loss_centerness: built loss.
        cls_predictor_cfg: arguments of a 1x1 ``NormedConv2d`` for the classes, whatever ``type`` it gives
            (``NormedLinear`` in configs).

    Raises:
        ValueError: not one range a level.
    """

    kinds = ("cls", "bbox", "centerness")

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        regress_ranges: Sequence[Sequence[float]] = RANGES,
        center_sampling: bool = False,
        center_sample_radius: float = 1.5,
        norm_on_bbox: bool = False,
        centerness_on_reg: bool = False,
        loss_cls: nn.Module | None = None,
        loss_bbox: nn.Module | None = None,
        loss_centerness: nn.Module | None = None,
        norm_cfg: Spec | None = GROUP_NORM,
        cls_predictor_cfg: Spec | None = None,
        init_cfg: Spec | list[dict[str, Any]] | None = FIRST_WEIGHTS,
        feat_channels: int = 256,
        stacked_convs: int = 4,
        strides: Sequence[int] = (4, 8, 16, 32, 64),
        dcn_on_last_conv: bool = False,
        conv_bias: bool | str = "auto",
        bbox_coder: Any = None,
        conv_cfg: Spec | None = None,
        train_cfg: dict[str, Any] | None = None,
        test_cfg: Spec | None = None,
    ) -> None:
        super().__init__(
            num_classes, in_channels, feat_channels, stacked_convs, strides, dcn_on_last_conv, conv_bias, loss_cls,
            loss_bbox, bbox_coder, conv_cfg, norm_cfg, train_cfg, test_cfg, init_cfg,
        )  # fmt: skip
        self.regress_ranges = [(float(low), float(high)) for low, high in regress_ranges]
        self.center_sampling, self.center_sample_radius = center_sampling, center_sample_radius
        self.norm_on_bbox, self.centerness_on_reg = norm_on_bbox, centerness_on_reg
        self.cls_predictor_cfg = cls_predictor_cfg
        self.loss_centerness = part(loss_centerness, BINARY_LOSS)
        self.build_layers()

    def _init_layers(self) -> None:
        super()._init_layers()
        if self.cls_predictor_cfg is not None:
            self.conv_cls = build_conv(  # type: ignore[assignment]
                {**self.cls_predictor_cfg, "type": "NormedConv2d"}, self.feat_channels, self.cls_out_channels, 1
            )
        self._init_centerness()

    def _init_centerness(self) -> None:
        self.conv_centerness = nn.Conv2d(self.feat_channels, 1, 3, padding=1)
        self.scales = level_scales(len(self.strides))

    def forward_single(self, x: Tensor) -> tuple[Tensor, ...]:
        of_class, of_box = through(self.cls_convs, x), through(self.reg_convs, x)
        centerness = self.conv_centerness(of_box if self.centerness_on_reg else of_class)
        return self.conv_cls(of_class), self.conv_reg(of_box), centerness

    def refine(self, *maps: Levels) -> tuple[Any, ...]:
        cls_scores, bbox_preds, centernesses = maps
        return cls_scores, self._distances(bbox_preds), centernesses

    def _distances(self, raw: Levels) -> Levels:
        found = scaled(raw, self.scales)
        if not self.norm_on_bbox:
            return [exact.exp(level) for level in found]
        found = [level.clamp(min=0) for level in found]
        return found if self.training else [level * s for level, s in zip(found, self.strides, strict=True)]

    def loss_by_feat(self, *maps: Levels, truths: Sequence[Truth], metas: Sequence[PictureMeta]) -> Losses:
        cls_scores, bbox_preds, centernesses = maps
        if self.norm_on_bbox and not self.training:  # what refine multiplied by
            bbox_preds = [level / s for level, s in zip(bbox_preds, self.strides, strict=True)]
        points = self.priors_of(cls_scores)
        labels, targets = self.get_targets(points, truths)
        logits = concatenated(cls_scores, self.cls_out_channels).flatten(0, 1)
        classes = labels.flatten()
        index = (classes < self.num_classes).nonzero()[:, 0]
        count = max(reduce_mean(index.new_tensor(float(len(index)), dtype=torch.float)).item(), 1.0)
        losses: Losses = {"loss_cls": self.loss_cls(logits, classes, avg_factor=count)}
        if getattr(self.loss_cls, "custom_accuracy", False):
            losses.update(self.loss_cls.get_accuracy(logits, classes))  # type: ignore[operator]
        distances = concatenated(bbox_preds, 4).flatten(0, 1)[index]
        centred = concatenated(centernesses, 1).flatten()[index]
        wanted = targets.flatten(0, 1)[index]
        weights = centerness_of(wanted)
        total = max(reduce_mean(weights.sum().detach()).item(), 1e-6)
        if len(index):
            at = torch.cat(points).repeat(len(truths), 1)[index]
            losses["loss_bbox"] = self.loss_bbox(
                self.bbox_coder.decode(at, distances), self.bbox_coder.decode(at, wanted), weight=weights,
                avg_factor=total,
            )  # fmt: skip
            losses["loss_centerness"] = self.loss_centerness(centred, weights, avg_factor=count)
        else:
            losses["loss_bbox"], losses["loss_centerness"] = distances.sum(), centred.sum()
        return losses

    def get_targets(self, points: Sequence[Tensor], truths: Sequence[Truth]) -> tuple[Tensor, Tensor]:
        """Classes (B, n) and distances (B, n, 4), in strides with ``norm_on_bbox``, for the points of all levels."""
        if len(points) != len(self.regress_ranges):
            raise ValueError(f"{len(points)} levels but {len(self.regress_ranges)} regress_ranges; give one a level")
        counts, everywhere = [len(level) for level in points], torch.cat(list(points))
        ranges = at_levels(self.regress_ranges, counts, everywhere)  # type: ignore[arg-type]
        strides = at_levels(self.strides, counts, everywhere)
        reach = strides * self.center_sample_radius if self.center_sampling else None
        found = [fcos_targets(everywhere, ranges, truth, self.num_classes, reach) for truth in truths]
        labels, distances = (torch.stack(values) for values in zip(*found, strict=True))
        return labels, distances / strides[:, None] if self.norm_on_bbox else distances
