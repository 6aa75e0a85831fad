"""RetinaNet's head that learns which anchors stand for a box."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hatdet.models.mmdet.heads.anchor.retina.plain import RARE_CLASSES, RetinaHead
from hatdet.models.mmdet.heads.base import Levels, Losses, PictureMeta, Truth
from hatdet.models.mmdet.heads.common import flatten
from hatdet.models.mmdet.overlaps import bbox_overlaps
from hatdet.registry import register
from hatdet.utils.annotations import Spec

EPS = 1e-12


@register(scope="mmdet")
class FreeAnchorRetinaHead(RetinaHead):
    """A bag of anchors for each box, of which one has to do well (arXiv 1909.02466).

    Raw maps, scores and boxes: see :class:`RetinaHead`.

    Args:
        num_classes, in_channels, stacked_convs, conv_cfg, norm_cfg: see :class:`RetinaHead`.
        pre_anchor_topk: anchors in a bag: those that overlap the box most.
        bbox_thr: a predicted box that overlaps less is background for certain.
        gamma: of the focal loss of negatives.
        alpha: share of the positives in the loss.
        feat_channels, anchor_generator, bbox_coder, reg_decoded_bbox, loss_cls, loss_bbox: see :class:`RetinaHead`.
        train_cfg, test_cfg, init_cfg: see :class:`RetinaHead`; there is no assigner.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int,
        stacked_convs: int = 4,
        conv_cfg: Spec | None = None,
        norm_cfg: Spec | None = None,
        pre_anchor_topk: int = 50,
        bbox_thr: float = 0.6,
        gamma: float = 2.0,
        alpha: float = 0.5,
        feat_channels: int = 256,
        anchor_generator: Any = None,
        bbox_coder: Any = None,
        reg_decoded_bbox: bool = False,
        loss_cls: nn.Module | None = None,
        loss_bbox: nn.Module | None = None,
        train_cfg: dict[str, Any] | None = None,
        test_cfg: Spec | None = None,
        init_cfg: Spec | list[Spec] | None = RARE_CLASSES,
    ) -> None:
        super().__init__(
            num_classes=num_classes, in_channels=in_channels, stacked_convs=stacked_convs, conv_cfg=conv_cfg,
            norm_cfg=norm_cfg, feat_channels=feat_channels, anchor_generator=anchor_generator, bbox_coder=bbox_coder,
            reg_decoded_bbox=reg_decoded_bbox, loss_cls=loss_cls, loss_bbox=loss_bbox, train_cfg=train_cfg,
            test_cfg=test_cfg, init_cfg=init_cfg,
        )  # fmt: skip
        self.pre_anchor_topk, self.bbox_thr, self.gamma, self.alpha = pre_anchor_topk, bbox_thr, gamma, alpha

    def loss_by_feat(self, *maps: Levels, truths: Sequence[Truth], metas: Sequence[PictureMeta]) -> Losses:
        """``positive_bag_loss`` and ``negative_bag_loss``."""
        cls_scores, bbox_preds = maps[:2]
        anchors = torch.cat(self.priors_of(cls_scores))
        probabilities = torch.cat([flatten(level, self.cls_out_channels) for level in cls_scores], dim=1).sigmoid()
        deltas = torch.cat([flatten(level, 4) for level in bbox_preds], dim=1)
        count = sum(len(truth) for truth in truths)
        each = [
            self.bag_losses(probabilities[i], deltas[i], anchors, truth) for i, truth in enumerate(truths) if len(truth)
        ]
        positive = torch.cat(each).sum() / count if each else deltas.sum() * 0
        objects = torch.stack(
            [self.object_probability(deltas[i].detach(), anchors, truth) for i, truth in enumerate(truths)]
        )
        negative = self.negative_loss(probabilities, objects) / max(1, count * self.pre_anchor_topk)
        return {"positive_bag_loss": positive, "negative_bag_loss": negative}

    def object_probability(self, deltas: Tensor, anchors: Tensor, truth: Truth) -> Tensor:
        """How sure a predicted box is one of a class, (N, classes): its IoU between ``bbox_thr`` and the best."""
        found = deltas.new_zeros((self.cls_out_channels, len(anchors)))
        if len(truth):
            ious = bbox_overlaps(truth.bboxes, self.bbox_coder.decode(anchors, deltas))
            best = ious.max(dim=1, keepdim=True).values.clamp(min=self.bbox_thr + EPS)
            share = ((ious - self.bbox_thr) / (best - self.bbox_thr)).clamp(min=0, max=1)
            found.scatter_reduce_(0, truth.labels[:, None].expand_as(share), share, "amax")
        return found.t()

    def bag_losses(self, probabilities: Tensor, deltas: Tensor, anchors: Tensor, truth: Truth) -> Tensor:
        """(boxes,) of one picture: minus the logarithm of the bag's probability, nearly its best anchor's."""
        bags = bbox_overlaps(truth.bboxes, anchors).topk(self.pre_anchor_topk, dim=1, sorted=False).indices
        right = probabilities[bags, truth.labels[:, None]]
        members, boxes = anchors[bags], truth.bboxes[:, None].expand(-1, self.pre_anchor_topk, -1)
        wanted = self.bbox_coder.encode(members.reshape(-1, 4), boxes.reshape(-1, 4)).view_as(members)
        loss = self.loss_bbox(deltas[bags], wanted, reduction_override="none").sum(-1)
        matched = right * torch.exp(-loss)
        weight = 1 / (1 - matched).clamp(min=EPS)
        bag = (weight / weight.sum(dim=1, keepdim=True) * matched).sum(dim=1)
        return self.alpha * F.binary_cross_entropy(bag, torch.ones_like(bag), reduction="none")

    def negative_loss(self, probabilities: Tensor, objects: Tensor) -> Tensor:
        """A focal loss of what is neither an object nor called background, summed."""
        wrong = (probabilities * (1 - objects)).clamp(min=EPS, max=1 - EPS)
        each = wrong**self.gamma * F.binary_cross_entropy(wrong, torch.zeros_like(wrong), reduction="none")
        return (1 - self.alpha) * each.sum()
