"""ATSS: positives by the overlaps of each box with its nearest anchors (arXiv 1912.02424)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hatdet.models.mmdet.heads.anchor_tower import SharedTowerHead, centres_of, target_levels
from hatdet.models.mmdet.heads.base import Levels, Losses, PictureMeta, Truth
from hatdet.models.mmdet.heads.common import flatten, reduce_mean
from hatdet.models.mmdet.heads.point.fcos_targets import centerness_of
from hatdet.models.mmdet.heads.towers import (
    BINARY_LOSS,
    GROUP_NORM,
    first_weights,
    level_scales,
    part,
    scaled,
    through,
)  # fmt: skip
from hatdet.registry import register
from hatdet.utils.annotations import Spec

FIRST_WEIGHTS = first_weights("atss_cls")


@register(scope="mmdet")
class ATSSHead(SharedTowerHead):
    """Raw maps: ``cls`` (B, A * classes, H, W) logits, ``bbox`` (B, A * 4, H, W), ``centerness`` (B, A, H, W) logits.

    The box is the anchor moved by scale * bbox, as the coder says; its score is sigmoid(cls) * sigmoid(centerness).

    Args:
        loss_centerness: built loss.
        others: see :class:`AnchorTowerHead`.
    """

    kinds = ("cls", "bbox", "centerness")

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        pred_kernel_size: int = 3,
        stacked_convs: int = 4,
        conv_cfg: Spec | None = None,
        norm_cfg: Spec | None = GROUP_NORM,
        reg_decoded_bbox: bool = True,
        loss_centerness: nn.Module | None = None,
        init_cfg: Spec | list[dict[str, Any]] | None = FIRST_WEIGHTS,
        feat_channels: int = 256,
        anchor_generator: Any = None,
        bbox_coder: Any = None,
        loss_cls: nn.Module | None = None,
        loss_bbox: nn.Module | None = None,
        train_cfg: dict[str, Any] | None = None,
        test_cfg: Spec | None = None,
    ) -> None:
        super().__init__(
            num_classes, in_channels, feat_channels, stacked_convs, conv_cfg, norm_cfg, pred_kernel_size,
            anchor_generator, bbox_coder, reg_decoded_bbox, loss_cls, loss_bbox, train_cfg, test_cfg, init_cfg,
        )  # fmt: skip
        self.loss_centerness = part(loss_centerness, BINARY_LOSS)
        self.build_layers()

    def _init_layers(self) -> None:
        self.cls_convs, self.reg_convs = self._stack(), self._stack()
        self.atss_cls = self._last(self.num_base_priors * self.cls_out_channels)
        self.atss_reg = self._last(self.num_base_priors * 4)
        self.atss_centerness = self._last(self.num_base_priors)
        self.scales = level_scales(self.prior_generator.num_levels)

    def forward_single(self, x: Tensor) -> tuple[Tensor, ...]:
        of_class, of_box = through(self.cls_convs, x), through(self.reg_convs, x)
        return self.atss_cls(of_class), self.atss_reg(of_box), self.atss_centerness(of_box)

    def refine(self, *maps: Levels) -> tuple[Any, ...]:
        cls_scores, bbox_preds, centernesses = maps
        return cls_scores, scaled(bbox_preds, self.scales), centernesses

    def loss_by_feat(self, *maps: Levels, truths: Sequence[Truth], metas: Sequence[PictureMeta]) -> Losses:
        cls_scores, bbox_preds, centernesses = maps
        anchors = self.anchors(cls_scores)
        targets = self.assigned(anchors, cls_scores, truths, metas)
        labels, weights, boxes = target_levels(targets, [len(level) for level in anchors])
        count = reduce_mean(anchors[0].new_tensor(float(sum(t.count for t in targets)))).item()
        losses: dict[str, list[Tensor]] = {"loss_cls": [], "loss_bbox": [], "loss_centerness": []}
        total = anchors[0].new_zeros(())
        for level, classes in enumerate(labels):
            logits = flatten(cls_scores[level], self.cls_out_channels).flatten(0, 1)
            losses["loss_cls"].append(self.loss_cls(logits, classes, weights[level], avg_factor=count))
            index = (classes < self.num_classes).nonzero()[:, 0]
            deltas, centred = flatten(bbox_preds[level], 4).flatten(0, 1), flatten(centernesses[level], 1).flatten()
            if not len(index):
                losses["loss_bbox"].append(deltas.sum() * 0)
                losses["loss_centerness"].append(centred.sum() * 0)
                continue
            own, wanted = anchors[level][index % len(anchors[level])], boxes[level][index]
            centerness = anchor_centerness(own, wanted)
            predicted = self.bbox_coder.decode(own, deltas[index])
            losses["loss_bbox"].append(self.loss_bbox(predicted, wanted, weight=centerness, avg_factor=1.0))
            losses["loss_centerness"].append(self.loss_centerness(centred[index], centerness, avg_factor=count))
            total = total + centerness.sum()
        average = reduce_mean(total).clamp(min=1).item()
        losses["loss_bbox"] = [loss / average for loss in losses["loss_bbox"]]
        return dict(losses)


def anchor_centerness(anchors: Tensor, boxes: Tensor) -> Tensor:
    """How near the centres of anchors (n, 4) are to those of their boxes (n, 4): (n,), 1 at the centre."""
    centres = centres_of(anchors)
    return centerness_of(torch.cat((centres - boxes[:, :2], boxes[:, 2:] - centres), dim=1))
