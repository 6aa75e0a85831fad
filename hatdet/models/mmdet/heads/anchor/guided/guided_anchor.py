"""Anchors whose place and shape the network says itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hatdet.models.mmdet.building import build
from hatdet.models.mmdet.heads.anchor.anchor_head import CLS, AnchorHead
from hatdet.models.mmdet.heads.anchor.approximate import SquareAnchors
from hatdet.models.mmdet.heads.anchor.guided.targets import location_targets, shape_targets
from hatdet.models.mmdet.heads.anchor.targets import batch_targets
from hatdet.models.mmdet.heads.base import DenseHead, Detections, Levels, Losses, PictureMeta, Truth
from hatdet.models.mmdet.heads.coding import Coding, Picking
from hatdet.models.mmdet.heads.common import anchor_inside_flags, featmap_sizes, flatten
from hatdet.models.mmdet.heads.prediction import PredictingHead, in_file_pixels
from hatdet.models.mmdet.heads.towers import concatenated
from hatdet.models.mmdet.layers.deform_conv import DeformConv2d
from hatdet.models.mmdet.layers.init import initialize
from hatdet.models.mmdet.post import multiclass_nms
from hatdet.registry import register
from hatdet.utils.annotations import Spec

CODER = {"type": "DeltaXYWHBBoxCoder", "target_means": [0.0] * 4, "target_stds": [1.0] * 4}
FOCAL = {"type": "FocalLoss", "use_sigmoid": True, "gamma": 2.0, "alpha": 0.25, "loss_weight": 1.0}
SHAPE = {"type": "BoundedIoULoss", "beta": 0.2, "loss_weight": 1.0}
BBOX = {"type": "SmoothL1Loss", "beta": 1.0, "loss_weight": 1.0}
RARE_PLACES = {
    "type": "Normal", "layer": "Conv2d", "std": 0.01,
    "override": {"type": "Normal", "name": "conv_loc", "std": 0.01, "bias_prob": 0.01},
}  # fmt: skip
ADAPTION = {
    "type": "Normal", "layer": "Conv2d", "std": 0.1,
    "override": {"type": "Normal", "name": "conv_adaption", "std": 0.01},
}  # fmt: skip
_RATIO_CLIP = 1e-6  # of shapes: they may change by a factor of a million


@register(scope="mmdet")
class FeatureAdaption(nn.Module):
    """A deformable convolution whose taps follow the shape of the anchor of the place.

    (B, in_channels, H, W) and shapes (B, 2, H, W) -> (B, out_channels, H, W).

    Args:
        in_channels, out_channels, kernel_size: of the convolution.
        deform_groups: groups of channels with taps of their own.
        init_cfg: first weights.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        deform_groups: int = 4,
        init_cfg: Spec | list[Spec] | None = ADAPTION,
    ) -> None:
        super().__init__()
        self.conv_offset = nn.Conv2d(2, deform_groups * kernel_size * kernel_size * 2, 1, bias=False)
        self.conv_adaption = DeformConv2d(
            in_channels, out_channels, kernel_size, padding=(kernel_size - 1) // 2, deform_groups=deform_groups
        )
        self.init_cfg = init_cfg
        self.init_weights()

    def init_weights(self) -> None:
        """First weights: this module's own, whatever the head fills."""
        initialize(self, self.init_cfg)

    def forward(self, x: Tensor, shape: Tensor) -> Tensor:
        return F.relu(self.conv_adaption(x, self.conv_offset(shape.detach())))


@register(scope="mmdet")
class GuidedAnchorHead(AnchorHead):
    """One anchor a place, of a shape that the network says, where it sees the centre of a box (arXiv 1901.03278).

    Raw maps: ``cls`` (B, C, H, W), logits, ``bbox`` (B, 4, H, W), deltas of the guided anchor, ``shape``
    (B, 2, H, W), what ``anchor_coder`` makes of the square of the place (width and height), and ``loc``
    (B, 1, H, W), the logit of a centre being there. In eval mode classes and deltas are 0 where the sigmoid of
    ``loc`` is below ``loc_filter_thr``, and no box is made there.

    Args:
        num_classes, in_channels, feat_channels: see :class:`AnchorHead`.
        approx_anchor_generator: anchors that say which squares are near a box.
        square_anchor_generator: the squares, one a place.
        anchor_coder: square <-> guided anchor.
        bbox_coder: guided anchor <-> box.
        reg_decoded_bbox: see :class:`AnchorHead`.
        deform_groups: of the deformable convolutions.
        loc_filter_thr: of the probability of a centre.
        train_cfg: ``assigner``, ``sampler`` of guided anchors; ``ga_assigner``, ``ga_sampler`` of squares;
            ``center_ratio``, ``ignore_ratio``: shares of a box that are its centre, and what is neither.
        test_cfg: see :class:`AnchorHead`.
        loss_loc, loss_shape, loss_cls, loss_bbox: of the maps.
        init_cfg: first weights.

    Raises:
        ValueError: generators that do not go together.
    """

    kinds = ("cls", "bbox", "shape", "loc")
    without_decoder = ", whose layers that read elsewhere have no integer form: take RetinaHead (or RPNHead)"

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int,
        feat_channels: int = 256,
        approx_anchor_generator: Any = None,
        square_anchor_generator: Any = None,
        anchor_coder: Any = None,
        bbox_coder: Any = None,
        reg_decoded_bbox: bool = False,
        deform_groups: int = 4,
        loc_filter_thr: float = 0.01,
        train_cfg: dict[str, Any] | None = None,
        test_cfg: Spec | None = None,
        loss_loc: nn.Module | None = None,
        loss_shape: nn.Module | None = None,
        loss_cls: nn.Module | None = None,
        loss_bbox: nn.Module | None = None,
        init_cfg: Spec | list[Spec] | None = RARE_PLACES,
    ) -> None:
        PredictingHead.__init__(self)  # priors and losses are others than an AnchorHead's
        self.deform_groups, self.loc_filter_thr = deform_groups, loc_filter_thr
        self.squares = SquareAnchors(approx_anchor_generator, square_anchor_generator, base_scale=8, first_stride=4)
        self.loss_loc, self.loss_shape = loss_loc or build(FOCAL), loss_shape or build(SHAPE)
        self.loss_cls, self.loss_bbox = loss_cls or build(CLS), loss_bbox or build(BBOX)
        self.use_sigmoid_cls = bool(getattr(self.loss_cls, "use_sigmoid", False))
        self.anchor_coder = anchor_coder or build(CODER)
        self._set_up(
            num_classes, in_channels, feat_channels, self.squares.square, bbox_coder or build(CODER), reg_decoded_bbox
        )
        self._set_cfg(train_cfg, test_cfg)
        self.ga_assigner = (train_cfg or {}).get("ga_assigner")
        self.ga_sampler = (train_cfg or {}).get("ga_sampler") or build({"type": "PseudoSampler"})
        self._init_layers()
        initialize(self, init_cfg)
        for part in self.children():
            if isinstance(part, FeatureAdaption):
                part.init_weights()

    def _init_layers(self) -> None:
        width, count = self.feat_channels, self.num_base_priors
        self.conv_loc = nn.Conv2d(self.in_channels, 1, 1)
        self.conv_shape = nn.Conv2d(self.in_channels, count * 2, 1)
        self.feature_adaption = FeatureAdaption(self.in_channels, width, deform_groups=self.deform_groups)
        self.conv_cls = nn.Conv2d(width, count * self.cls_out_channels, 1)
        self.conv_reg = nn.Conv2d(width, count * 4, 1)

    def forward_single(self, x: Tensor) -> tuple[Tensor, ...]:
        loc, shape = self.conv_loc(x), self.conv_shape(x)
        x = self.feature_adaption(x, shape)
        return self.conv_cls(x), self.conv_reg(x), shape, loc

    def refine(self, *maps: Levels) -> tuple[Any, ...]:
        cls_scores, bbox_preds, shapes, locs = maps
        if not self.training:
            likely = [loc.sigmoid() >= self.loc_filter_thr for loc in locs]
            cls_scores = [level * here for level, here in zip(cls_scores, likely, strict=True)]
            bbox_preds = [level * here for level, here in zip(bbox_preds, likely, strict=True)]
        return cls_scores, bbox_preds, shapes, locs

    def coding(self) -> Coding:
        return DenseHead.coding(self)  # type: ignore[no-any-return]  # anchors are said by the network

    def picking(self) -> Picking:
        return Picking(by_prior=True, clips=self.bbox_coder.clip_border, ignores=("min_bbox_size",))

    def boxes_and_scores(self, *maps: Levels) -> tuple[Tensor, Tensor]:
        cls_scores, bbox_preds, shapes, locs = maps
        anchors = torch.cat(self.guided_anchors(shapes), dim=1)
        deltas, logits = concatenated(bbox_preds, 4), concatenated(cls_scores, self.cls_out_channels)
        likely = concatenated([level.sigmoid() >= self.loc_filter_thr for level in locs], 1)
        boxes = self.bbox_coder.decode(anchors.flatten(0, 1), deltas.flatten(0, 1)).view_as(deltas)
        return boxes, self.class_scores(logits) * likely

    def guided_anchors(self, shapes: Levels) -> Levels:
        """(B, n_i, 4) of each level: the squares in the shapes that the network says."""
        found = []
        for squares, level in zip(self.priors_of(shapes), shapes, strict=True):
            deltas = F.pad(flatten(level.detach(), 2), (2, 0))
            every = squares.expand(len(deltas), -1, -1)
            boxes = self.anchor_coder.decode(every.reshape(-1, 4), deltas.view(-1, 4), wh_ratio_clip=_RATIO_CLIP)
            found.append(boxes.view_as(every))
        return found

    def loss_by_feat(self, *maps: Levels, truths: Sequence[Truth], metas: Sequence[PictureMeta]) -> Losses:
        """``loss_cls``, ``loss_bbox``, ``loss_shape`` and ``loss_loc``, one of each level."""
        assert self.train_cfg is not None
        cls_scores, bbox_preds, shapes, locs = maps
        sizes, border = featmap_sizes(cls_scores), self.train_cfg.get("allowed_border", -1)
        approxs = self.squares.approxs(cls_scores)
        places = [self.squares.inside(approxs, sizes, meta, border) for meta in metas]
        guided = self.guided_anchors(shapes)
        anchors = list(torch.cat(guided, dim=1))
        inside = []
        for boxes, here, meta in zip(anchors, places, metas, strict=True):
            if border >= 0 and here is not None:
                here = anchor_inside_flags(boxes, here, meta["img_shape"], border)
            inside.append(here)
        targets = batch_targets(self, anchors, inside, [level.shape[1] for level in guided], truths)
        losses: Losses = {
            "loss_cls": [self.cls_loss(level, i, targets) for i, level in enumerate(cls_scores)],
            "loss_bbox": [
                self.box_loss(level, i, targets, guided[i].flatten(0, 1)) for i, level in enumerate(bbox_preds)
            ],
            "loss_shape": self._shape_losses(shapes, approxs, places, truths),
        }
        wanted, weights, total = location_targets(
            truths, sizes, [stride[0] for stride in self.squares.approx.strides],
            self.squares.approx.octave_base_scale, self.train_cfg["center_ratio"], self.train_cfg["ignore_ratio"],
        )  # fmt: skip
        losses["loss_loc"] = [
            self.loss_loc(level.reshape(-1, 1), goal.flatten(), weight.flatten(), avg_factor=total)
            for level, goal, weight in zip(locs, wanted, weights, strict=True)
        ]
        return losses

    def _shape_losses(
        self, shapes: Levels, approxs: Tensor, places: Sequence[Tensor | None], truths: Sequence[Truth]
    ) -> list[Tensor]:
        squares = self.priors_of(shapes)
        rows, boxes, total = shape_targets(
            self.ga_assigner, self.ga_sampler, torch.cat(squares), approxs, places, truths
        )
        losses, start = [], 0
        for level, anchors in zip(shapes, squares, strict=True):
            count = len(anchors)
            here = (rows[:, 1] >= start) & (rows[:, 1] < start + count)
            picture, place = rows[here, 0], rows[here, 1] - start
            deltas = F.pad(flatten(level, 2)[picture, place], (2, 0))
            found = self.anchor_coder.decode(anchors[place], deltas, wh_ratio_clip=_RATIO_CLIP)
            losses.append(self.loss_shape(found, boxes[here], torch.ones_like(found), avg_factor=total))
            start += count
        return losses

    def predict_by_feat(
        self,
        *maps: Levels,
        metas: Sequence[PictureMeta],
        cfg: Mapping[str, Any] | None = None,
        rescale: bool = False,
        with_nms: bool = True,
    ) -> list[Detections]:
        """See :meth:`DenseHead.predict_by_feat`; ``nms_pre`` places of each level, whatever their class."""
        cfg = (self.test_cfg or {}) if cfg is None else cfg
        cls_scores, bbox_preds, shapes, locs = ([level.detach() for level in kind] for kind in maps)
        guided = self.guided_anchors(shapes)
        found = []
        for i, meta in enumerate(metas):
            levels = []
            for level, anchors in enumerate(guided):
                likely = flatten(locs[level], 1)[i, :, 0].sigmoid() >= self.loc_filter_thr
                if self.training:
                    likely = torch.ones_like(likely)
                logits = flatten(cls_scores[level], self.cls_out_channels)[i][likely]
                levels.append((logits, flatten(bbox_preds[level], 4)[i][likely], anchors[i][likely]))
            found.append(self.picture_boxes(levels, meta, cfg, rescale))
        return found

    def picture_boxes(
        self,
        levels: Sequence[tuple[Tensor, Tensor, Tensor]],
        meta: PictureMeta,
        cfg: Mapping[str, Any],
        rescale: bool,
    ) -> Detections:
        """Logits, deltas and anchors of the likely places of each level -> detections."""
        kept = []
        for logits, deltas, anchors in levels:
            scores = self.class_scores(logits)
            if 0 < cfg.get("nms_pre", -1) < len(scores):
                best = scores.max(dim=1).values.topk(cfg["nms_pre"]).indices
                scores, deltas, anchors = scores[best], deltas[best], anchors[best]
            kept.append((scores, deltas, anchors))
        scores, deltas, anchors = (torch.cat(parts) for parts in zip(*kept, strict=True))
        boxes = self.bbox_coder.decode(anchors, deltas, max_shape=meta["img_shape"])
        if rescale:
            boxes = in_file_pixels(boxes, meta)
        padded = F.pad(scores, (0, 1))  # the background, last, is not asked
        dets, labels = multiclass_nms(boxes, padded, cfg["score_thr"], cfg["nms"], cfg["max_per_img"])[:2]
        return {"boxes": dets[:, :4], "scores": dets[:, -1], "labels": labels}
