"""The region proposal network's head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hatdet.models.mmdet.heads.anchor.anchor_head import NORMAL, AnchorHead
from hatdet.models.mmdet.heads.base import Levels, Losses, PictureMeta, Truth
from hatdet.models.mmdet.heads.coding import Coding
from hatdet.models.mmdet.heads.prediction import Candidates
from hatdet.models.mmdet.layers.conv import ConvModule
from hatdet.registry import register
from hatdet.utils.annotations import Spec


def best_of_levels(
    scores: Sequence[Tensor], values: Sequence[Tensor], priors: Sequence[Tensor], nms_pre: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """At most ``nms_pre`` of the scores (n_i,) of each level (0 or less: all), and what belongs to them.

    Returns:
        Scores (k,), values (k, ...), priors (k, ...) and levels (k,).
    """
    kept: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    for level, (score, value, prior) in enumerate(zip(scores, values, priors, strict=True)):
        if 0 < nms_pre < len(score):
            best = score.sort(descending=True, stable=True).indices[:nms_pre].sort().values
            score, value, prior = score[best], value[best], prior[best]
        kept.append((score, value, prior, torch.full_like(score, level, dtype=torch.long)))
    found = [torch.cat(parts) for parts in zip(*kept, strict=True)]
    return found[0], found[1], found[2], found[3]


@register(scope="mmdet")
class RPNHead(AnchorHead):
    """Whether an anchor is an object, and its box (arXiv 1506.01497).

    Raw maps: see :class:`AnchorHead`, of one class. Boxes of different levels do not suppress each other.

    Args:
        in_channels, feat_channels, anchor_generator, bbox_coder: see :class:`AnchorHead`.
        num_classes: 1.
        num_convs: 3x3 convolutions before the maps.
        reg_decoded_bbox, loss_cls, loss_bbox, train_cfg, test_cfg, init_cfg: see :class:`AnchorHead`.

    Raises:
        ValueError: more classes than one.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int = 1,
        init_cfg: Spec | list[Spec] | None = NORMAL,
        num_convs: int = 1,
        feat_channels: int = 256,
        anchor_generator: Any = None,
        bbox_coder: Any = None,
        reg_decoded_bbox: bool = False,
        loss_cls: nn.Module | None = None,
        loss_bbox: nn.Module | None = None,
        train_cfg: dict[str, Any] | None = None,
        test_cfg: Spec | None = None,
    ) -> None:
        if num_classes != 1:
            raise ValueError(f"num_classes={num_classes}: proposals have one class; leave num_classes out")
        self.num_convs = num_convs
        super().__init__(
            num_classes=num_classes, in_channels=in_channels, feat_channels=feat_channels,
            anchor_generator=anchor_generator, bbox_coder=bbox_coder, reg_decoded_bbox=reg_decoded_bbox,
            loss_cls=loss_cls, loss_bbox=loss_bbox, train_cfg=train_cfg, test_cfg=test_cfg, init_cfg=init_cfg,
        )  # fmt: skip

    def _init_layers(self) -> None:
        width = self.feat_channels
        if self.num_convs > 1:
            inputs = [self.in_channels, *[width] * self.num_convs]
            self.rpn_conv: nn.Module = nn.Sequential(
                *(ConvModule(inputs[i], width, 3, padding=1, inplace=False) for i in range(self.num_convs))
            )
        else:
            self.rpn_conv = nn.Conv2d(self.in_channels, width, 3, padding=1)
        self.rpn_cls = nn.Conv2d(width, self.num_base_priors * self.cls_out_channels, 1)
        self.rpn_reg = nn.Conv2d(width, self.num_base_priors * self.box_channels, 1)

    def forward_single(self, x: Tensor) -> tuple[Tensor, ...]:
        x = self.rpn_conv(x)
        if self.num_convs <= 1:  # the modules of a row have their own
            x = F.relu(x)
        return self.rpn_cls(x), self.rpn_reg(x)

    def loss_by_feat(self, *maps: Levels, truths: Sequence[Truth], metas: Sequence[PictureMeta]) -> Losses:
        """``loss_rpn_cls`` and ``loss_rpn_bbox``, one of each level; labels have to be 0."""
        losses = super().loss_by_feat(*maps, truths=truths, metas=metas)
        return {"loss_rpn_cls": losses["loss_cls"], "loss_rpn_bbox": losses["loss_bbox"]}

    def coding(self) -> Coding:
        return replace(super().coding(), by_level=True, ignores=("score_thr",))

    def candidates(
        self,
        logits: Sequence[Tensor],
        values: Sequence[Tensor],
        factors: Sequence[Tensor] | None,
        priors: Sequence[Tensor],
        meta: PictureMeta,
        cfg: Mapping[str, Any],
    ) -> Candidates:
        scores, kept, anchors, levels = best_of_levels(
            [self.class_scores(level)[:, 0] for level in logits], values, priors, cfg.get("nms_pre", -1)
        )
        boxes = self.bbox_coder.decode(anchors, kept, max_shape=meta["img_shape"])
        return Candidates(boxes, scores, torch.zeros_like(levels), groups=levels)
