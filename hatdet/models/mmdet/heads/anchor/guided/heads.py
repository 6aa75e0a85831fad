"""Guided anchors in RetinaNet and in a region proposal network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hatdet.models.mmdet.heads.anchor.guided.guided_anchor import RARE_PLACES, FeatureAdaption, GuidedAnchorHead
from hatdet.models.mmdet.heads.anchor.stacks import stack
from hatdet.models.mmdet.heads.base import Detections, Levels, Losses, PictureMeta, Truth
from hatdet.models.mmdet.heads.coding import Picking
from hatdet.models.mmdet.heads.prediction import in_file_pixels
from hatdet.models.mmdet.post import nms
from hatdet.registry import register
from hatdet.utils.annotations import Spec

RARE = {
    "type": "Normal", "layer": "Conv2d", "std": 0.01,
    "override": [
        {"type": "Normal", "name": "conv_loc", "std": 0.01, "bias_prob": 0.01},
        {"type": "Normal", "name": "retina_cls", "std": 0.01, "bias_prob": 0.01},
    ],
}  # fmt: skip


@register(scope="mmdet")
class GARetinaHead(GuidedAnchorHead):
    """RetinaNet's towers before guided anchors (arXiv 1901.03278).

    Raw maps, scores and boxes: see :class:`GuidedAnchorHead`.

    Args:
        num_classes, in_channels: see :class:`GuidedAnchorHead`.
        stacked_convs, conv_cfg, norm_cfg: see :class:`RetinaHead`.
        init_cfg: None: the usual one.
        feat_channels, approx_anchor_generator, square_anchor_generator, anchor_coder, bbox_coder, reg_decoded_bbox,
            deform_groups, loc_filter_thr, train_cfg, test_cfg, loss_loc, loss_shape, loss_cls, loss_bbox: see
            :class:`GuidedAnchorHead`.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int,
        stacked_convs: int = 4,
        conv_cfg: Spec | None = None,
        norm_cfg: Spec | None = None,
        init_cfg: Spec | list[Spec] | None = None,
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
    ) -> None:
        self.stacked_convs, self.conv_cfg, self.norm_cfg = stacked_convs, conv_cfg, norm_cfg
        super().__init__(
            num_classes=num_classes, in_channels=in_channels, feat_channels=feat_channels,
            approx_anchor_generator=approx_anchor_generator, square_anchor_generator=square_anchor_generator,
            anchor_coder=anchor_coder, bbox_coder=bbox_coder, reg_decoded_bbox=reg_decoded_bbox,
            deform_groups=deform_groups, loc_filter_thr=loc_filter_thr, train_cfg=train_cfg, test_cfg=test_cfg,
            loss_loc=loss_loc, loss_shape=loss_shape, loss_cls=loss_cls, loss_bbox=loss_bbox,
            init_cfg=init_cfg or RARE,
        )  # fmt: skip

    def _init_layers(self) -> None:
        width, count = self.feat_channels, self.num_base_priors
        self.cls_convs = stack(self.in_channels, width, self.stacked_convs, self.conv_cfg, self.norm_cfg)
        self.reg_convs = stack(self.in_channels, width, self.stacked_convs, self.conv_cfg, self.norm_cfg)
        self.conv_loc = nn.Conv2d(width, 1, 1)
        self.conv_shape = nn.Conv2d(width, count * 2, 1)
        self.feature_adaption_cls = FeatureAdaption(width, width, deform_groups=self.deform_groups)
        self.feature_adaption_reg = FeatureAdaption(width, width, deform_groups=self.deform_groups)
        self.retina_cls = nn.Conv2d(width, count * self.cls_out_channels, 3, padding=1)
        self.retina_reg = nn.Conv2d(width, count * 4, 3, padding=1)

    def forward_single(self, x: Tensor) -> tuple[Tensor, ...]:
        cls_feat, reg_feat = self.cls_convs(x), self.reg_convs(x)
        loc, shape = self.conv_loc(cls_feat), self.conv_shape(reg_feat)
        cls_feat, reg_feat = self.feature_adaption_cls(cls_feat, shape), self.feature_adaption_reg(reg_feat, shape)
        return self.retina_cls(cls_feat), self.retina_reg(reg_feat), shape, loc


@register(scope="mmdet")
class GARPNHead(GuidedAnchorHead):
    """Guided anchors that are an object or none (arXiv 1901.03278).

    Raw maps: see :class:`GuidedAnchorHead`, of one class. Levels are suppressed one by one (``nms``), at most
    ``nms_post`` of each are kept, and of all the best ``max_per_img`` (``nms_across_levels``: after another
    suppression).

    Args:
        in_channels, feat_channels: see :class:`GuidedAnchorHead`.
        num_classes: 1.
        init_cfg: first weights.
        approx_anchor_generator, square_anchor_generator, anchor_coder, bbox_coder, reg_decoded_bbox, deform_groups,
            loc_filter_thr, train_cfg, test_cfg, loss_loc, loss_shape, loss_cls, loss_bbox: see
            :class:`GuidedAnchorHead`.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int = 1,
        init_cfg: Spec | list[Spec] | None = RARE_PLACES,
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
    ) -> None:
        super().__init__(
            num_classes=num_classes, in_channels=in_channels, feat_channels=feat_channels,
            approx_anchor_generator=approx_anchor_generator, square_anchor_generator=square_anchor_generator,
            anchor_coder=anchor_coder, bbox_coder=bbox_coder, reg_decoded_bbox=reg_decoded_bbox,
            deform_groups=deform_groups, loc_filter_thr=loc_filter_thr, train_cfg=train_cfg, test_cfg=test_cfg,
            loss_loc=loss_loc, loss_shape=loss_shape, loss_cls=loss_cls, loss_bbox=loss_bbox, init_cfg=init_cfg,
        )  # fmt: skip

    def _init_layers(self) -> None:
        self.rpn_conv = nn.Conv2d(self.in_channels, self.feat_channels, 3, padding=1)
        super()._init_layers()

    def forward_single(self, x: Tensor) -> tuple[Tensor, ...]:
        return super().forward_single(F.relu(self.rpn_conv(x)))

    def loss_by_feat(self, *maps: Levels, truths: Sequence[Truth], metas: Sequence[PictureMeta]) -> Losses:
        """``loss_rpn_cls``, ``loss_rpn_bbox``, ``loss_anchor_shape``, ``loss_anchor_loc``; labels have to be 0."""
        losses = super().loss_by_feat(*maps, truths=truths, metas=metas)
        names = {"cls": "rpn_cls", "bbox": "rpn_bbox", "shape": "anchor_shape", "loc": "anchor_loc"}
        return {f"loss_{name}": losses[f"loss_{kind}"] for kind, name in names.items()}

    def picking(self) -> Picking:
        return Picking(by_level=True, clips=self.bbox_coder.clip_border, ignores=("score_thr",))

    def picture_boxes(
        self,
        levels: Sequence[tuple[Tensor, Tensor, Tensor]],
        meta: PictureMeta,
        cfg: Mapping[str, Any],
        rescale: bool,
    ) -> Detections:
        kept, threshold, smallest = [], cfg["nms"]["iou_threshold"], cfg.get("min_bbox_size", -1)
        for logits, deltas, anchors in levels:
            scores = self.class_scores(logits)[:, 0]
            if 0 < cfg.get("nms_pre", -1) < len(scores):
                scores, best = scores.topk(cfg["nms_pre"])
                deltas, anchors = deltas[best], anchors[best]
            boxes = self.bbox_coder.decode(anchors, deltas, max_shape=meta["img_shape"])
            if smallest >= 0:
                large = (boxes[:, 2:] - boxes[:, :2] > smallest).all(dim=1)
                boxes, scores = boxes[large], scores[large]
            kept.append(nms(boxes, scores, threshold)[0][: cfg["nms_post"]])
        found = torch.cat(kept)
        if cfg.get("nms_across_levels", False):
            found = nms(found[:, :4], found[:, 4], threshold)[0][: cfg["max_per_img"]]
        else:
            found = found[found[:, 4].topk(min(cfg["max_per_img"], len(found))).indices]
        boxes = in_file_pixels(found[:, :4], meta) if rescale else found[:, :4]
        labels = torch.zeros(len(found), dtype=torch.long, device=found.device)
        return {"boxes": boxes, "scores": found[:, 4], "labels": labels}
