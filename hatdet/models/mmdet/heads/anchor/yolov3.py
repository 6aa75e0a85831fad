"""YOLOv3's head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hatdet.models.mmdet import exact
from hatdet.models.mmdet.building import build
from hatdet.models.mmdet.heads.anchor.targets import truth_instances
from hatdet.models.mmdet.heads.base import DenseHead, Detections, Levels, Losses, PictureMeta, Truth
from hatdet.models.mmdet.heads.coding import Address, Coding, of_form, table_of
from hatdet.models.mmdet.heads.common import featmap_sizes, flatten, images_to_levels
from hatdet.models.mmdet.heads.prediction import Candidates, best_in_order, finish
from hatdet.models.mmdet.instances import Instances
from hatdet.models.mmdet.layers.conv import ConvModule
from hatdet.models.mmdet.layers.init import bias_init_with_prob, initialize, normal_init
from hatdet.registry import register
from hatdet.utils.annotations import Spec

ANCHORS = {
    "type": "YOLOAnchorGenerator",
    "base_sizes": [
        [(116, 90), (156, 198), (373, 326)], [(30, 61), (62, 45), (59, 119)], [(10, 13), (16, 30), (33, 23)],
    ],
    "strides": [32, 16, 8],
}  # fmt: skip
BN = {"type": "BN", "requires_grad": True}
LEAKY = {"type": "LeakyReLU", "negative_slope": 0.1}
BINARY = {"type": "CrossEntropyLoss", "use_sigmoid": True, "loss_weight": 1.0}


@register(scope="mmdet")
class YOLOV3Head(DenseHead):
    """All that is said of an anchor side by side (arXiv 1804.02767).

    Raw map: ``pred`` (B, A * (5 + num_classes), H, W), for each anchor x and y (a sigmoid: the place in the cell),
    w and h (logarithms of the share of the anchor), objectness and classes (logits). A score is the product of the
    sigmoids of objectness and class. The coarsest level comes first.

    Args:
        num_classes: of foreground.
        in_channels: of the features of each level.
        out_channels: of the 3x3 convolution of each level.
        anchor_generator: gives the anchors.
        bbox_coder: :class:`YOLOBBoxCoder`.
        featmap_strides: pixels per position of each level.
        one_hot_smoother: what a class gives away to all, from 0 to 1.
        conv_cfg, norm_cfg, act_cfg: of the 3x3 convolutions.
        loss_cls, loss_conf, loss_xy, loss_wh: of classes, objectness, place and size.
        train_cfg: ``assigner`` is a :class:`GridAssigner`.
        test_cfg: ``conf_thr`` of objectness, ``score_thr`` of classes, ``nms_pre``, ``nms``, ``max_per_img``.
        init_cfg: in the place of the usual first weights.

    Raises:
        ValueError: lists of different lengths.
    """

    kinds = ("pred",)

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: Sequence[int],
        out_channels: Sequence[int] = (1024, 512, 256),
        anchor_generator: Any = None,
        bbox_coder: Any = None,
        featmap_strides: Sequence[int] = (32, 16, 8),
        one_hot_smoother: float = 0.0,
        conv_cfg: Spec | None = None,
        norm_cfg: Spec | None = BN,
        act_cfg: Spec | None = LEAKY,
        loss_cls: nn.Module | None = None,
        loss_conf: nn.Module | None = None,
        loss_xy: nn.Module | None = None,
        loss_wh: nn.Module | None = None,
        train_cfg: dict[str, Any] | None = None,
        test_cfg: Spec | None = None,
        init_cfg: Spec | list[Spec] | None = None,
    ) -> None:
        super().__init__()
        self.prior_generator = anchor_generator or build(ANCHORS)
        counts = self.prior_generator.num_base_priors
        lengths = {len(in_channels), len(out_channels), len(featmap_strides), len(counts)}
        if len(lengths) > 1:
            raise ValueError(
                f"in_channels={list(in_channels)}, out_channels={list(out_channels)}, featmap_strides="
                f"{list(featmap_strides)} and the anchors of {len(counts)} levels need one length"
            )
        self.num_classes, self.num_attrib, self.num_base_priors = num_classes, 5 + num_classes, counts[0]
        self.featmap_strides, self.one_hot_smoother = tuple(featmap_strides), one_hot_smoother
        self.bbox_coder = bbox_coder or build({"type": "YOLOBBoxCoder"})
        self.loss_cls, self.loss_conf = loss_cls or build(BINARY), loss_conf or build(BINARY)
        self.loss_xy, self.loss_wh = loss_xy or build(BINARY), loss_wh or build({"type": "MSELoss", "loss_weight": 1.0})
        self.train_cfg, self.test_cfg = train_cfg, test_cfg
        self.assigner = (train_cfg or {}).get("assigner")
        self.sampler = (train_cfg or {}).get("sampler") or build({"type": "PseudoSampler"})
        self.convs_bridge = nn.ModuleList(
            ConvModule(inputs, outputs, 3, padding=1, conv_cfg=conv_cfg, norm_cfg=norm_cfg, act_cfg=act_cfg)
            for inputs, outputs in zip(in_channels, out_channels, strict=True)
        )
        self.convs_pred = nn.ModuleList(
            nn.Conv2d(outputs, self.num_base_priors * self.num_attrib, 1) for outputs in out_channels
        )
        if init_cfg is None:
            self._init_weights()
        else:
            initialize(self, init_cfg)

    def _init_weights(self) -> None:
        """Few objects, and each class rare."""
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                normal_init(part, std=0.01)
        with torch.no_grad():
            for conv, stride in zip(self.convs_pred, self.featmap_strides, strict=True):
                bias = conv.bias.view(self.num_base_priors, -1)  # type: ignore[union-attr, operator]
                bias[:, 4] = bias_init_with_prob(8 / (608 / stride) ** 2)  # 8 objects in a picture of 608
                bias[:, 5:] = bias_init_with_prob(0.01)

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        convs = zip(self.convs_pred, self.convs_bridge, feats, strict=True)
        return tuple(pred(bridge(x)) for pred, bridge, x in convs)

    def priors_of(self, maps: Levels) -> list[Tensor]:
        """Anchors (n_i, 4) of each level of ``maps``."""
        sizes = featmap_sizes(maps)
        return self.prior_generator.grid_priors(  # type: ignore[no-any-return]
            sizes, dtype=maps[0].dtype, device=maps[0].device
        )

    def _strides(self, anchors: Sequence[Tensor]) -> Tensor:
        """Of each anchor (N,)."""
        pairs = zip(anchors, self.featmap_strides, strict=True)
        return torch.cat([level.new_full((len(level),), stride) for level, stride in pairs])

    def loss_by_feat(self, *maps: Levels, truths: Sequence[Truth], metas: Sequence[PictureMeta]) -> Losses:
        """``loss_cls``, ``loss_conf``, ``loss_xy`` and ``loss_wh``, one of each level."""
        preds = maps[0]
        anchors = self.priors_of(preds)
        found = [self._picture_targets(anchors, featmap_sizes(preds), truth) for truth in truths]
        counts = [len(level) for level in anchors]
        targets, negatives = (images_to_levels(list(parts), counts) for parts in zip(*found, strict=True))
        losses: dict[str, list[Tensor]] = {"loss_cls": [], "loss_conf": [], "loss_xy": [], "loss_wh": []}
        for level, target, negative in zip(preds, targets, negatives, strict=True):
            pred = flatten(level, self.num_attrib)
            positive = target[..., 4]
            counted, owned = (negative + positive).clamp(max=1), positive[..., None]
            losses["loss_cls"].append(self.loss_cls(pred[..., 5:], target[..., 5:], weight=owned))
            losses["loss_conf"].append(self.loss_conf(pred[..., 4], positive, weight=counted))
            losses["loss_xy"].append(self.loss_xy(pred[..., :2], target[..., :2], weight=owned))
            losses["loss_wh"].append(self.loss_wh(pred[..., 2:4], target[..., 2:4], weight=owned))
        return {**losses}

    def _picture_targets(
        self, anchors: Levels, sizes: Sequence[tuple[int, int]], truth: Truth
    ) -> tuple[Tensor, Tensor]:
        """What the map should say of each anchor (N, 5 + classes), and which anchors are for nothing (N,)."""
        assert self.assigner is not None, "a head without train_cfg cannot be trained"
        flat = torch.cat(anchors)
        flags = torch.cat(self.prior_generator.responsible_flags(sizes, truth.bboxes, flat.device))
        priors, (boxes, _) = Instances(priors=flat, responsible_flags=flags), truth_instances(truth)
        sample = self.sampler.sample(self.assigner.assign(priors, boxes), priors, boxes)
        target = flat.new_zeros((len(flat), self.num_attrib))
        positive = sample.pos_inds
        if len(positive):
            strides = self._strides(anchors)[positive]
            classes = F.one_hot(sample.pos_gt_labels, self.num_classes).to(flat)
            if self.one_hot_smoother:
                classes = classes * (1 - self.one_hot_smoother) + self.one_hot_smoother / self.num_classes
            target[positive, :4] = self.bbox_coder.encode(sample.pos_priors, sample.pos_gt_bboxes, strides)
            target[positive, 4] = 1
            target[positive, 5:] = classes
        negative = flat.new_zeros(len(flat))
        negative[sample.neg_inds] = 1
        return target, negative

    def boxes_and_scores(self, *maps: Levels) -> tuple[Tensor, Tensor]:
        anchors = self.priors_of(maps[0])
        pred = torch.cat([flatten(level, self.num_attrib) for level in maps[0]], dim=1)
        values = torch.cat([exact.sigmoid(pred[..., :2]), pred[..., 2:4]], dim=-1)
        boxes = self.bbox_coder.decode(torch.cat(anchors), values, self._strides(anchors)[:, None])
        return boxes, exact.sigmoid(pred[..., 5:]) * exact.sigmoid(pred[..., 4:5])

    def coding(self) -> Coding:
        threshold = (self.test_cfg or {}).get("conf_thr", -1)
        step = self.num_attrib
        of_form(self.bbox_coder, "cells")
        return Coding(
            "cells", Address(0, 5, step), Address(0, 0, step), Address(0, 4, step), clips=False, whole=True,
            factor_thr=threshold if threshold > 0 else None,
        )  # fmt: skip

    def class_scores(self, logits: Tensor) -> Tensor:
        """(n, classes) between 0 and 1."""
        return exact.sigmoid(logits)

    score_factors = class_scores

    def box_table(self, rows: Tensor, level: int) -> Tensor:
        values = torch.cat((exact.sigmoid(rows[:, :2]), rows[:, 2:]), dim=1)
        return table_of(self.bbox_coder, values, (0.0, 0.0), self.featmap_strides[level])

    def predict_by_feat(
        self,
        *maps: Levels,
        metas: Sequence[PictureMeta],
        cfg: Mapping[str, Any] | None = None,
        rescale: bool = False,
        with_nms: bool = True,
    ) -> list[Detections]:
        """See :meth:`DenseHead.predict_by_feat`; ``nms_pre`` is of all levels together."""
        cfg = (self.test_cfg or {}) if cfg is None else cfg
        anchors = self.priors_of(maps[0])
        pred = torch.cat([flatten(level.detach(), self.num_attrib) for level in maps[0]], dim=1)
        values = torch.cat([exact.sigmoid(pred[..., :2]), pred[..., 2:4]], dim=-1)
        boxes = self.bbox_coder.decode(torch.cat(anchors), values, self._strides(anchors)[:, None])
        found = []
        for i, meta in enumerate(metas):
            objectness, threshold = exact.sigmoid(pred[i, :, 4]), cfg.get("conf_thr", -1)
            picked, classes, decoded = objectness, exact.sigmoid(pred[i, :, 5:]), boxes[i]
            if threshold > 0:
                sure = objectness >= threshold
                picked, classes, decoded = objectness[sure], classes[sure], decoded[sure]
            scores, labels, index = best_in_order(classes, cfg.get("score_thr", 0), cfg.get("nms_pre", -1))
            candidates = Candidates(decoded[index], scores, labels, factors=picked[index])
            found.append(finish(candidates, cfg, meta, rescale, with_nms))
        return found
