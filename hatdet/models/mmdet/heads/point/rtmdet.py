"""RTMDet: distances to edges, assigned by soft labels (arXiv 2212.07784)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from hatdet.models.mmdet import exact
from hatdet.models.mmdet.heads.anchor_tower import AnchorTowerHead
from hatdet.models.mmdet.heads.assignment import assign, inside_of
from hatdet.models.mmdet.heads.base import Detections, Levels, Losses, PictureMeta, Truth
from hatdet.models.mmdet.heads.coding import Coding
from hatdet.models.mmdet.heads.common import featmap_sizes, flatten, images_to_levels, reduce_mean
from hatdet.models.mmdet.heads.geometric import inverse_sigmoid, sigmoid_geometric_mean
from hatdet.models.mmdet.heads.towers import (
    GROUP_NORM,
    RELU,
    concatenated,
    first_weights,
    kind_after_kind,
    level_scales,
    scaled,
    through,
    tower,
)  # fmt: skip
from hatdet.models.mmdet.layers.init import bias_init_with_prob, normal_init
from hatdet.registry import register
from hatdet.utils.annotations import Spec

NORM = {"type": "BN", "momentum": 0.03, "eps": 0.001}
SILU = {"type": "SiLU"}
FIRST_WEIGHTS = first_weights("rtm_cls")


@register(scope="mmdet")
class RTMDetHead(AnchorTowerHead):
    """Raw maps: ``cls`` (B, classes, H, W) logits, ``bbox`` (B, 4, H, W) and, with objectness, ``obj`` (B, 1, H, W).

    Distances to the left, top, right and bottom edges of the point (the top left corner of the cell with
    ``offset=0``): scale * exp(bbox) strides. Score sigmoid(cls), or sqrt(sigmoid(cls) * sigmoid(obj)).

    Args:
        with_objectness: a map says whether there is anything.
        act_cfg: of the stacks.
        others: see :class:`AnchorTowerHead`; ``anchor_generator`` is one of points, ``bbox_coder`` of distances.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        with_objectness: bool = True,
        act_cfg: Spec | None = RELU,
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
        self.with_objectness, self.act_cfg = with_objectness, act_cfg
        self.kinds = ("cls", "bbox", "obj") if with_objectness else ("cls", "bbox")
        self.build_layers()

    def _last(self, channels: int) -> nn.Conv2d:
        size = self.pred_kernel_size
        return nn.Conv2d(self.feat_channels, channels, size, padding=size // 2)

    def _tower(self, separable: bool = False) -> nn.ModuleList:
        return tower(
            self.in_channels, self.feat_channels, self.stacked_convs, conv_cfg=self.conv_cfg, norm_cfg=self.norm_cfg,
            act_cfg=self.act_cfg, separable=separable,
        )  # fmt: skip

    def _init_layers(self) -> None:
        self.cls_convs, self.reg_convs = self._tower(), self._tower()
        self.rtm_cls = self._last(self.num_base_priors * self.cls_out_channels)
        self.rtm_reg = self._last(self.num_base_priors * 4)
        if self.with_objectness:
            self.rtm_obj = self._last(1)
        self.scales = level_scales(self.prior_generator.num_levels)

    def init_weights(self) -> None:
        """Small normal weights, whatever ``init_cfg`` says; classes and objects begin with a score of 0.01."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                normal_init(module, std=0.01)
        for name, bias in (("rtm_cls", 0.01), ("rtm_obj", 0.01)):
            for layer in getattr(self, name, nn.Module()).modules():
                if isinstance(layer, nn.Conv2d):
                    normal_init(layer, std=0.01, bias=bias_init_with_prob(bias))

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return kind_after_kind([self._level(x, level) for level, x in enumerate(feats)])

    def _level(self, x: Tensor, level: int) -> tuple[Tensor, ...]:
        of_class, of_box = through(self.cls_convs, x), through(self.reg_convs, x)
        maps = (self.rtm_cls(of_class), self.rtm_reg(of_box))
        return (*maps, self.rtm_obj(of_box)) if self.with_objectness else maps

    def refine(self, *maps: Levels) -> tuple[Any, ...]:
        cls_scores = maps[0]
        if self.with_objectness:
            cls_scores = [
                inverse_sigmoid(sigmoid_geometric_mean(level, there))
                for level, there in zip(cls_scores, maps[2], strict=True)
            ]
        strides = self.prior_generator.strides
        return cls_scores, [level * s[0] for level, s in zip(self._distances(maps[1]), strides, strict=True)]

    def predict(
        self,
        *maps: Levels,
        metas: Sequence[PictureMeta],
        cfg: Mapping[str, Any] | None = None,
        rescale: bool = False,
    ) -> list[Detections]:
        """Of raw maps: scores are roots of products, which a decoder finds too, not sigmoids of their logits."""
        distances = self.refine(*maps)[1]
        return self.predict_by_feat(maps[0], distances, *maps[2:], metas=metas, cfg=cfg, rescale=rescale)

    def scores_of(self, logits: Tensor, factors: Tensor | None) -> tuple[Tensor, Tensor | None]:
        scores = self.class_scores(logits)
        return (scores, None) if factors is None else (exact.sqrt(scores * self.score_factors(factors)[:, None]), None)

    def coding(self) -> Coding:
        return replace(super().coding(), early=self.with_objectness, root=self.with_objectness)

    def _distances(self, raw: Levels) -> Levels:
        """In strides."""
        return scaled([exact.exp(level) for level in raw], self.scales)

    def loss_by_feat(self, *maps: Levels, truths: Sequence[Truth], metas: Sequence[PictureMeta]) -> Losses:
        assert self.train_cfg is not None
        cls_scores, bbox_preds = maps
        sizes, device = featmap_sizes(cls_scores), cls_scores[0].device
        points = self.prior_generator.grid_priors(sizes, device=device, with_stride=True)
        everywhere, counts = torch.cat(points), [len(level) for level in points]
        scores = concatenated([level.detach() for level in cls_scores], self.cls_out_channels)
        distances = concatenated(bbox_preds, 4)
        boxes = torch.cat((everywhere[:, :2] - distances[..., :2], everywhere[:, :2] + distances[..., 2:]), dim=-1)
        targets = []
        for picture, (truth, meta) in enumerate(zip(truths, metas, strict=True)):
            flags = self.prior_generator.valid_flags(sizes, meta["pad_shape"], device=device)
            inside = inside_of(points, flags, meta, self.train_cfg.get("allowed_border", -1))
            predictions = {"scores": scores[picture], "bboxes": boxes[picture].detach(), "priors": everywhere}
            targets.append(
                assign(
                    self.train_cfg["assigner"], self.train_cfg.get("sampler"), predictions, truth,
                    num_classes=self.num_classes, pos_weight=self.train_cfg.get("pos_weight", -1), inside=inside,
                )
            )  # fmt: skip
        labels, weights, wanted, metrics = (
            images_to_levels(list(kind), counts)
            for kind in zip(*((t.labels, t.weights, t.boxes, _quality(t)) for t in targets), strict=True)
        )
        losses: dict[str, list[Tensor]] = {"loss_cls": [], "loss_bbox": []}
        for level, predicted in enumerate(boxes.split(counts, dim=1)):
            logits, quality = flatten(cls_scores[level], self.cls_out_channels).flatten(0, 1), metrics[level].flatten()
            classes = labels[level].flatten()
            weight = weights[level].flatten()
            losses["loss_cls"].append(self.loss_cls(logits, (classes, quality), weight, avg_factor=1.0))
            index = (classes < self.num_classes).nonzero()[:, 0]
            predicted = predicted.flatten(0, 1)
            box = wanted[level].flatten(0, 1)[index]
            losses["loss_bbox"].append(
                self.loss_bbox(predicted[index], box, weight=quality[index], avg_factor=1.0)
                if len(index) else predicted.sum() * 0
            )  # fmt: skip
        total = torch.stack([level.sum() for level in metrics]).sum()
        of_boxes = torch.stack([m[c < self.num_classes].sum() for m, c in zip(metrics, labels, strict=True)]).sum()
        averages = {"loss_cls": total, "loss_bbox": of_boxes}
        return {
            name: [value / reduce_mean(averages[name]).clamp(min=1).item() for value in values]
            for name, values in losses.items()
        }


def _quality(targets: Any) -> Tensor:
    """Overlap with what is to be found (n,), 0 elsewhere."""
    return torch.where(targets.positive, targets.overlaps, 0)


@register(scope="mmdet")
class RTMDetSepBNHead(RTMDetHead):
    """:class:`RTMDetHead` with normalization of each level for itself.

    Distances are exp(bbox) strides with ``exp_on_reg``, else bbox strides as they are: there is no scale.

    Args:
        share_conv: the convolutions of the stacks are the same on all levels.
        use_depthwise: depthwise and pointwise convolutions.
        exp_on_reg: see above.
        others: see :class:`RTMDetHead`.

    Raises:
        ValueError: ``share_conv`` of depthwise convolutions.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        share_conv: bool = True,
        use_depthwise: bool = False,
        norm_cfg: Spec | None = NORM,
        act_cfg: Spec | None = SILU,
        pred_kernel_size: int = 1,
        exp_on_reg: bool = False,
        with_objectness: bool = True,
        stacked_convs: int = 4,
        conv_cfg: Spec | None = None,
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
        if share_conv and use_depthwise:
            raise ValueError("share_conv shares no depthwise convolutions; set share_conv or use_depthwise False")
        AnchorTowerHead.__init__(
            self, num_classes, in_channels, feat_channels, stacked_convs, conv_cfg, norm_cfg, pred_kernel_size,
            anchor_generator, bbox_coder, reg_decoded_bbox, loss_cls, loss_bbox, train_cfg, test_cfg, init_cfg,
        )  # fmt: skip
        self.with_objectness, self.act_cfg = with_objectness, act_cfg
        self.kinds = ("cls", "bbox", "obj") if with_objectness else ("cls", "bbox")
        self.share_conv, self.use_depthwise, self.exp_on_reg = share_conv, use_depthwise, exp_on_reg
        self.build_layers()

    def _init_layers(self) -> None:
        levels = range(self.prior_generator.num_levels)
        self.cls_convs = nn.ModuleList([self._tower(self.use_depthwise) for _ in levels])
        self.reg_convs = nn.ModuleList([self._tower(self.use_depthwise) for _ in levels])
        self.rtm_cls = nn.ModuleList([self._last(self.num_base_priors * self.cls_out_channels) for _ in levels])  # type: ignore[assignment]
        self.rtm_reg = nn.ModuleList([self._last(self.num_base_priors * 4) for _ in levels])  # type: ignore[assignment]
        if self.with_objectness:
            self.rtm_obj = nn.ModuleList([self._last(1) for _ in levels])  # type: ignore[assignment]
        if self.share_conv:
            for stacks in (self.cls_convs, self.reg_convs):
                for stack in stacks:
                    for own, first in zip(stack.children(), stacks[0].children(), strict=True):
                        own.conv = first.conv

    def _level(self, x: Tensor, level: int) -> tuple[Tensor, ...]:
        of_class, of_box = through(self.cls_convs[level], x), through(self.reg_convs[level], x)  # type: ignore[arg-type]
        maps = (self.rtm_cls[level](of_class), self.rtm_reg[level](of_box))  # type: ignore[index]
        return (*maps, self.rtm_obj[level](of_box)) if self.with_objectness else maps  # type: ignore[index]

    def _distances(self, raw: Levels) -> Levels:
        return [exact.exp(level) for level in raw] if self.exp_on_reg else raw
