"""TOOD: one stack for both tasks, taken apart by attention and aligned by learned shifts (arXiv 2108.07755)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hatdet.models.mmdet import exact
from hatdet.models.mmdet.heads.anchor_tower import SharedTowerHead, centres_of, target_levels
from hatdet.models.mmdet.heads.base import Levels, Losses, PictureMeta, Truth
from hatdet.models.mmdet.heads.coding import Address, Coding, of_classes, of_form, table_of
from hatdet.models.mmdet.heads.common import flatten, images_to_levels, reduce_mean
from hatdet.models.mmdet.heads.geometric import sigmoid_geometric_mean
from hatdet.models.mmdet.heads.prediction import Candidates, best_in_order
from hatdet.models.mmdet.heads.quality.atss import anchor_centerness
from hatdet.models.mmdet.heads.quality.tood_parts import TaskDecomposition, aligned_sides, normalized_alignment
from hatdet.models.mmdet.heads.towers import (
    BINARY_LOSS,
    FOCAL_LOSS,
    GROUP_NORM,
    concatenated,
    first_weights,
    level_scales,
    part,
    scaled,
    tower,
)  # fmt: skip
from hatdet.models.mmdet.layers.init import bias_init_with_prob, normal_init
from hatdet.registry import register
from hatdet.utils.annotations import Spec

FIRST_WEIGHTS = first_weights("tood_cls")


@register(scope="mmdet")
class TOODHead(SharedTowerHead):
    """Raw maps: ``cls`` (B, classes, H, W) logits, ``bbox`` (B, 4, H, W), ``prob`` (B, 1, H, W) logits, ``shift``
    (B, 8, H, W).

    Scores are sqrt(sigmoid(cls) * sigmoid(prob)). Boxes in strides: the centre of the anchor less and plus
    scale * exp(bbox) (``anchor_free``), or the anchor moved by scale * bbox as the coder says (``anchor_based``). Then
    each edge is read at a place of its own, (y, x) of ``shift`` cells away, by bilinear interpolation with zeros
    outside, unless that gives a box of negative size.

    Args:
        num_dcn: how many of the first convolutions are deformable (DCNv2).
        anchor_type: ``anchor_free`` or ``anchor_based``.
        initial_loss_cls: built loss of the first epochs.
        loss_cls, loss_bbox: built losses; those of classes take scores, not logits (``activated=True``).
        others: see :class:`AnchorTowerHead`; ``train_cfg`` has ``initial_epoch``, ``initial_assigner`` (before that
            epoch), ``assigner`` (from it on), ``alpha``, ``beta``.

    Attributes:
        epoch: of training, from 0; set by whoever trains.

    Raises:
        ValueError: an unknown ``anchor_type``.
    """

    kinds = ("cls", "bbox", "prob", "shift")

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        num_dcn: int = 0,
        anchor_type: str = "anchor_free",
        initial_loss_cls: nn.Module | None = None,
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
        if anchor_type not in ("anchor_free", "anchor_based"):
            raise ValueError(f"anchor_type={anchor_type!r}; write 'anchor_free' or 'anchor_based'")
        super().__init__(
            num_classes, in_channels, feat_channels, stacked_convs, conv_cfg, norm_cfg, 3, anchor_generator,
            bbox_coder, reg_decoded_bbox, loss_cls, loss_bbox, train_cfg, test_cfg, init_cfg,
        )  # fmt: skip
        self.num_dcn, self.anchor_type = num_dcn, anchor_type
        self.epoch, self.initial_epoch = 0, (train_cfg or {}).get("initial_epoch", 0)
        self.initial_loss_cls = part(initial_loss_cls, {**FOCAL_LOSS, "activated": True})
        self.loss_centerness = part(loss_centerness, BINARY_LOSS)
        self.build_layers()

    def _init_layers(self) -> None:
        deformable = tower(
            self.in_channels, self.feat_channels, min(self.num_dcn, self.stacked_convs),
            conv_cfg={"type": "DCNv2", "deform_groups": 4}, norm_cfg=self.norm_cfg,
        )  # fmt: skip
        begun = len(deformable) > 0
        plain = tower(
            self.feat_channels if begun else self.in_channels, self.feat_channels, self.stacked_convs - len(deformable),
            conv_cfg=self.conv_cfg, norm_cfg=self.norm_cfg,
        )  # fmt: skip
        self.inter_convs = nn.ModuleList([*deformable, *plain])
        channels, layers = self.feat_channels, self.stacked_convs
        self.cls_decomp = TaskDecomposition(channels, layers, layers * 8, self.conv_cfg, self.norm_cfg)
        self.reg_decomp = TaskDecomposition(channels, layers, layers * 8, self.conv_cfg, self.norm_cfg)
        self.tood_cls = self._last(self.num_base_priors * self.cls_out_channels)
        self.tood_reg = self._last(self.num_base_priors * 4)
        self.cls_prob_module, self.reg_offset_module = self._of_all_layers(1), self._of_all_layers(4 * 2)
        self.scales = level_scales(self.prior_generator.num_levels)

    def _of_all_layers(self, channels: int) -> nn.Sequential:
        narrow = self.feat_channels // 4
        return nn.Sequential(
            nn.Conv2d(self.feat_channels * self.stacked_convs, narrow, 1), nn.ReLU(inplace=True),
            nn.Conv2d(narrow, channels, 3, padding=1),
        )  # fmt: skip

    def init_weights(self) -> None:
        """Small normal weights, whatever ``init_cfg`` says; classes begin with a score of 0.01."""
        bias = bias_init_with_prob(0.01)
        for module in self.inter_convs:
            normal_init(module.conv, std=0.01)  # type: ignore[arg-type]
        for modules, std in ((self.cls_prob_module, 0.01), (self.reg_offset_module, 0.001)):
            for module in modules:
                if isinstance(module, nn.Conv2d):
                    normal_init(module, std=std)
        normal_init(self.cls_prob_module[-1], std=0.01, bias=bias)
        self.cls_decomp.init_weights()
        self.reg_decomp.init_weights()
        normal_init(self.tood_cls, std=0.01, bias=bias)
        normal_init(self.tood_reg, std=0.01)

    def forward_single(self, x: Tensor) -> tuple[Tensor, ...]:
        layers = []
        for convolution in self.inter_convs:
            x = convolution(x)
            layers.append(x)
        feat = torch.cat(layers, dim=1)
        mean = F.adaptive_avg_pool2d(feat, (1, 1))
        classes, boxes = self.tood_cls(self.cls_decomp(feat, mean)), self.tood_reg(self.reg_decomp(feat, mean))
        return classes, boxes, self.cls_prob_module(feat), self.reg_offset_module(feat)

    def refine(self, *maps: Levels) -> tuple[Any, ...]:
        classes, boxes, sure, shifts = maps
        free = self.anchor_type == "anchor_free"
        values = scaled([exact.exp(level) for level in boxes] if free else boxes, self.scales)
        anchors = self.anchors(classes)
        scores = [sigmoid_geometric_mean(one, two) for one, two in zip(classes, sure, strict=True)]
        aligned = [
            aligned_sides(self._boxes(level, own, stride), shift)
            for level, own, stride, shift in zip(values, anchors, self.level_strides, shifts, strict=True)
        ]
        return scores, aligned

    def coding(self) -> Coding:
        based = self.anchor_type == "anchor_based"
        boxes: dict[str, Any] = of_form(self.bbox_coder, "deltas") if based else {"form": "sides"}
        return Coding(
            **{**boxes, **of_classes(self, each=True), "clips": False, "clip_less": 0}, box=Address(1, 0, 4),
            factor=Address(2, 0, 1), early=True, root=True, shift=Address(3, 0, 8),
        )  # fmt: skip

    def class_scores(self, logits: Tensor) -> Tensor:
        return exact.sigmoid(logits)

    def box_tables(self, maps: Sequence[Tensor], level: int) -> list[Tensor]:
        """Of maps that hold every code: distances in strides, or what the coder makes of deltas."""
        boxes = self.levels(maps)[1]
        if self.anchor_type == "anchor_free":
            return list(scaled([exact.exp(m) for m in boxes], self.scales)[level][0].flatten(1))
        rows = scaled(boxes, self.scales)[level][0].flatten(1).T
        return list(table_of(self.bbox_coder, rows, (0.0, 0.0), self.level_strides[level]).unbind(1))

    def boxes_and_scores(self, *maps: Levels) -> tuple[Tensor, Tensor]:
        scores, aligned = self.refine(*maps)
        boxes = [flatten(level, 4) * stride for level, stride in zip(aligned, self.level_strides, strict=True)]
        return torch.cat(boxes, dim=1), concatenated(scores, self.cls_out_channels)

    def _boxes(self, values: Tensor, anchors: Tensor, stride: int) -> Tensor:
        """Distances or codes (B, 4, H, W) -> boxes (B, 4, H, W) in strides."""
        b, _, h, w = values.shape
        if self.anchor_type == "anchor_free":
            centres = (centres_of(anchors) / stride).T.reshape(1, 2, h, w)
            return torch.cat((centres - values[:, :2], centres + values[:, 2:]), dim=1)
        boxes = self.bbox_coder.decode(anchors.repeat(b, 1), flatten(values, 4).flatten(0, 1))
        return boxes.reshape(b, h, w, 4).permute(0, 3, 1, 2) / stride  # type: ignore[no-any-return]

    def loss_by_feat(self, *maps: Levels, truths: Sequence[Truth], metas: Sequence[PictureMeta]) -> Losses:
        assert self.train_cfg is not None
        scores, bbox_preds = maps
        anchors = self.anchors(scores)
        counts, early = [len(level) for level in anchors], self.epoch < self.initial_epoch
        if early:
            targets = self.assigned(anchors, scores, truths, metas, self.train_cfg["initial_assigner"])
            aligned = [t.positive.to(anchors[0].dtype) for t in targets]
        else:
            strided = [level.detach() * s for level, s in zip(bbox_preds, self.level_strides, strict=True)]
            predictions = {
                "scores": concatenated([level.detach() for level in scores], self.cls_out_channels),
                "bboxes": concatenated(strided, 4),
            }
            targets = self.assigned(
                anchors, scores, truths, metas, None, predictions,
                alpha=self.train_cfg["alpha"], beta=self.train_cfg["beta"],
            )  # fmt: skip
            aligned = [normalized_alignment(t, len(truth)) for t, truth in zip(targets, truths, strict=True)]
        labels, weights, boxes = target_levels(targets, counts)
        metrics = [level.flatten() for level in images_to_levels(aligned, counts)]
        losses: dict[str, list[Tensor]] = {"loss_cls": [], "loss_bbox": []}
        of_boxes = anchors[0].new_zeros(())
        for level, classes in enumerate(labels):
            score, metric = flatten(scores[level], self.cls_out_channels).flatten(0, 1), metrics[level]
            loss, wanted = (self.initial_loss_cls, classes) if early else (self.loss_cls, (classes, metric))
            losses["loss_cls"].append(loss(score, wanted, weights[level], avg_factor=1.0))
            index = (classes < self.num_classes).nonzero()[:, 0]
            predicted = flatten(bbox_preds[level], 4).flatten(0, 1)
            if not len(index):
                losses["loss_bbox"].append(predicted.sum() * 0)
                continue
            box, own = boxes[level][index], anchors[level][index % counts[level]]
            weight = anchor_centerness(own, box) if early else metric[index]
            losses["loss_bbox"].append(
                self.loss_bbox(predicted[index], box / self.level_strides[level], weight=weight, avg_factor=1.0)
            )
            of_boxes = of_boxes + weight.sum()
        averages = {"loss_cls": torch.stack([metric.sum() for metric in metrics]).sum(), "loss_bbox": of_boxes}
        return {
            name: [value / reduce_mean(averages[name]).clamp(min=1).item() for value in values]
            for name, values in losses.items()
        }

    def candidates(
        self,
        logits: Sequence[Tensor],
        values: Sequence[Tensor],
        factors: Sequence[Tensor] | None,
        priors: Sequence[Tensor],
        meta: PictureMeta,
        cfg: Mapping[str, Any],
    ) -> Candidates:
        found = []
        for level, stride in enumerate(self.level_strides):  # what comes are scores, and boxes in strides
            best, classes, index = best_in_order(logits[level], cfg.get("score_thr", 0), cfg.get("nms_pre", -1))
            found.append((values[level][index] * stride, best, classes))
        boxes, scores, labels = (torch.cat(kind) for kind in zip(*found, strict=True))
        return Candidates(boxes, scores, labels)
