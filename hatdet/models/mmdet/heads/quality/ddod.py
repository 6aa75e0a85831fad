"""DDOD: classes and boxes choose their positives each for themselves (arXiv 2107.02963)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hatdet.models.mmdet.heads.anchor_tower import SharedTowerHead, target_levels
from hatdet.models.mmdet.heads.base import Levels, Losses, PictureMeta, Truth
from hatdet.models.mmdet.heads.common import flatten, reduce_mean
from hatdet.models.mmdet.heads.towers import (
    BINARY_LOSS,
    GROUP_NORM,
    concatenated,
    level_scales,
    part,
    scaled,
    through,
)  # fmt: skip
from hatdet.models.mmdet.layers.init import bias_init_with_prob, normal_init
from hatdet.models.mmdet.overlaps import bbox_overlaps
from hatdet.registry import register
from hatdet.utils.annotations import Spec


@register(scope="mmdet")
class DDODHead(SharedTowerHead):
    """Raw maps: ``cls`` (B, A * classes, H, W) logits, ``bbox`` (B, A * 4, H, W), ``iou`` (B, A, H, W) logits.

    The box is the anchor moved by scale * bbox, as the coder says; its score is sigmoid(cls) * sigmoid(iou).

    Args:
        use_dcn: the first convolution of each stack is deformable.
        loss_iou: built loss.
        others: see :class:`AnchorTowerHead`; ``train_cfg`` has an ``assigner`` and a ``reg_assigner``.
    """

    kinds = ("cls", "bbox", "iou")

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        stacked_convs: int = 4,
        conv_cfg: Spec | None = None,
        use_dcn: bool = True,
        norm_cfg: Spec | None = GROUP_NORM,
        loss_iou: nn.Module | None = None,
        feat_channels: int = 256,
        anchor_generator: Any = None,
        bbox_coder: Any = None,
        reg_decoded_bbox: bool = False,
        loss_cls: nn.Module | None = None,
        loss_bbox: nn.Module | None = None,
        train_cfg: dict[str, Any] | None = None,
        test_cfg: Spec | None = None,
        init_cfg: Spec | list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(
            num_classes, in_channels, feat_channels, stacked_convs, conv_cfg, norm_cfg, 3, anchor_generator,
            bbox_coder, reg_decoded_bbox, loss_cls, loss_bbox, train_cfg, test_cfg, init_cfg,
        )  # fmt: skip
        self.use_dcn = use_dcn
        self.loss_iou = part(loss_iou, BINARY_LOSS)
        self.cls_num_pos_samples_per_level = [0.0] * self.prior_generator.num_levels
        self.build_layers()

    def _init_layers(self) -> None:
        first = {"type": "DCN", "deform_groups": 1} if self.use_dcn else None
        self.cls_convs, self.reg_convs = self._stack(first), self._stack(first)
        self.atss_cls = self._last(self.num_base_priors * self.cls_out_channels)
        self.atss_reg = self._last(self.num_base_priors * 4)
        self.atss_iou = self._last(self.num_base_priors)
        self.scales = level_scales(self.prior_generator.num_levels)

    def init_weights(self) -> None:
        """Small normal weights, whatever ``init_cfg`` says; classes begin with a score of 0.01."""
        for module in (*self.cls_convs, *self.reg_convs):
            normal_init(module.conv, std=0.01)  # type: ignore[arg-type]
        normal_init(self.atss_reg, std=0.01)
        normal_init(self.atss_iou, std=0.01)
        normal_init(self.atss_cls, std=0.01, bias=bias_init_with_prob(0.01))

    def forward_single(self, x: Tensor) -> tuple[Tensor, ...]:
        of_class, of_box = through(self.cls_convs, x), through(self.reg_convs, x)
        return self.atss_cls(of_class), self.atss_reg(of_box), self.atss_iou(of_box)

    def refine(self, *maps: Levels) -> tuple[Any, ...]:
        cls_scores, bbox_preds, ious = maps
        return cls_scores, scaled(bbox_preds, self.scales), ious

    def loss_by_feat(self, *maps: Levels, truths: Sequence[Truth], metas: Sequence[PictureMeta]) -> Losses:
        assert self.train_cfg is not None
        cls_scores, bbox_preds, ious = maps
        anchors = self.anchors(cls_scores)
        counts, everywhere = [len(level) for level in anchors], torch.cat(anchors)
        deltas = concatenated([level.detach() for level in bbox_preds], 4)
        predictions = {
            "bboxes": torch.stack([self.bbox_coder.decode(everywhere, picture) for picture in deltas]),
            "scores": concatenated([level.detach() for level in cls_scores], self.cls_out_channels),
        }
        losses: dict[str, list[Tensor]] = {"loss_cls": [], "loss_bbox": [], "loss_iou": []}

        targets = self.assigned(anchors, cls_scores, truths, metas, None, predictions)
        labels, weights, _ = target_levels(targets, counts)
        count = self._average([t.count for t in targets], everywhere)
        for level, factor in enumerate(self.calc_reweight_factor(labels)):
            logits = flatten(cls_scores[level], self.cls_out_channels).flatten(0, 1)
            losses["loss_cls"].append(factor * self.loss_cls(logits, labels[level], weights[level], avg_factor=count))

        targets = self.assigned(anchors, cls_scores, truths, metas, self.train_cfg["reg_assigner"], predictions)
        labels, _, boxes = target_levels(targets, counts)
        count = self._average([t.count for t in targets], everywhere)
        for level, factor in enumerate(self.calc_reweight_factor(labels)):
            values, overlaps = flatten(bbox_preds[level], 4).flatten(0, 1), flatten(ious[level], 1).flatten()
            index = (labels[level] < self.num_classes).nonzero()[:, 0]
            if not len(index):
                losses["loss_bbox"].append(factor * values.sum() * 0)
                losses["loss_iou"].append(factor * overlaps.sum() * 0)
                continue
            own = anchors[level][index % counts[level]]
            predicted = self.bbox_coder.decode(own, values[index])
            wanted = self.bbox_coder.decode(own, self.bbox_coder.encode(own, boxes[level][index]))  # of what it can say
            losses["loss_bbox"].append(factor * self.loss_bbox(predicted, wanted, avg_factor=count))
            shared = bbox_overlaps(predicted.detach(), wanted, is_aligned=True)
            losses["loss_iou"].append(factor * self.loss_iou(overlaps[index], shared, avg_factor=count))
        return dict(losses)

    @staticmethod
    def _average(counts: Sequence[int], like: Tensor) -> float:
        return max(reduce_mean(like.new_tensor(float(sum(counts)))).item(), 1.0)

    def calc_reweight_factor(self, labels: Sequence[Tensor]) -> list[float]:
        """2 for the level with the fewest positives since training began, 1 for that with the most; these count."""
        found = torch.stack([(level < self.num_classes).sum() for level in labels]).tolist()
        counts = self.cls_num_pos_samples_per_level
        counts = self.cls_num_pos_samples_per_level = [a + b for a, b in zip(counts, found, strict=True)]
        step = 1.0 / (max(counts) - min(counts) + 1e-10)
        return [2.0 - (count - min(counts)) * step for count in counts]
