"""VarifocalNet: scores that are overlaps, boxes refined by features read at nine points of them (arXiv 2008.13367)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hatdet.models.mmdet.building import build
from hatdet.models.mmdet.heads.assignment import assign, inside_of
from hatdet.models.mmdet.heads.base import DenseHead, Levels, Losses, PictureMeta, Truth
from hatdet.models.mmdet.heads.coding import Coding, Picking
from hatdet.models.mmdet.heads.common import featmap_sizes, reduce_mean
from hatdet.models.mmdet.heads.point.anchor_free import AnchorFreeHead
from hatdet.models.mmdet.heads.point.fcos import RANGES
from hatdet.models.mmdet.heads.point.fcos_targets import fcos_targets
from hatdet.models.mmdet.heads.point.reppoints_geometry import square
from hatdet.models.mmdet.heads.towers import (
    FOCAL_LOSS,
    GROUP_NORM,
    at_levels,
    concatenated,
    first_weights,
    kind_after_kind,
    level_scales,
    part,
    scaled,
    through,
)  # fmt: skip
from hatdet.models.mmdet.layers.conv import ConvModule
from hatdet.models.mmdet.layers.deform_conv import DeformConv2d
from hatdet.models.mmdet.overlaps import bbox_overlaps
from hatdet.registry import register
from hatdet.utils.annotations import Spec

POINTS = 9
VARIFOCAL = {
    "type": "VarifocalLoss", "use_sigmoid": True, "alpha": 0.75, "gamma": 2.0, "iou_weighted": True,
    "loss_weight": 1.0,
}  # fmt: skip
SQUARES = {
    "type": "AnchorGenerator", "ratios": [1.0], "octave_base_scale": 8, "scales_per_octave": 1, "center_offset": 0.0,
    "strides": [8, 16, 32, 64, 128],
}  # fmt: skip

FIRST_WEIGHTS = first_weights("vfnet_cls")


@register(scope="mmdet")
class VFNetHead(AnchorFreeHead):
    """Raw maps: ``cls`` (B, classes, H, W) logits, ``bbox`` and ``refine`` (B, 4, H, W).

    Distances to the left, top, right and bottom edges: exp(scale * bbox) * denominator pixels (the level's largest
    distance, or its stride), times exp(scale_refine * refine), from the point of the position: its top left corner
    with ``center_offset=0`` and ``use_atss``. Score sigmoid(cls). ``cls`` and ``refine`` come of deformable
    convolutions that read at the corners, the middles of the edges and the centre of the first box.

    Args:
        num_classes, in_channels, feat_channels, stacked_convs, strides, dcn_on_last_conv, conv_bias, conv_cfg,
            norm_cfg, loss_bbox, bbox_coder, train_cfg, test_cfg, init_cfg: see :class:`AnchorFreeHead`.
        regress_ranges, center_sampling, center_sample_radius: as FCOS, without ``use_atss``.
        sync_num_pos: the count of positives is the mean of all ranks.
        gradient_mul: of the gradient by where features are read.
        bbox_norm_type: ``reg_denom`` or ``stride``.
        loss_cls_fl: built loss of classes without ``use_vfl``.
        use_vfl: scores learn overlaps.
        loss_cls, loss_bbox, loss_bbox_refine: built losses.
        use_atss: positives by anchors (``train_cfg``'s ``assigner``), not by ranges.
        reg_decoded_bbox: losses compare boxes, as they do anyhow.
        anchor_generator: built; one anchor a position.

    Raises:
        ValueError: an unknown ``bbox_norm_type``.
    """

    kinds = ("cls", "bbox", "refine")
    without_decoder = ", whose layers that read elsewhere have no integer form: take ATSSHead or FCOSHead"
    taps: Tensor

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        regress_ranges: Sequence[Sequence[float]] = RANGES,
        center_sampling: bool = False,
        center_sample_radius: float = 1.5,
        sync_num_pos: bool = True,
        gradient_mul: float = 0.1,
        bbox_norm_type: str = "reg_denom",
        loss_cls_fl: nn.Module | None = None,
        use_vfl: bool = True,
        loss_cls: nn.Module | None = None,
        loss_bbox: nn.Module | None = None,
        loss_bbox_refine: nn.Module | None = None,
        norm_cfg: Spec | None = GROUP_NORM,
        use_atss: bool = True,
        reg_decoded_bbox: bool = True,
        anchor_generator: Any = None,
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
        if bbox_norm_type not in ("reg_denom", "stride"):
            raise ValueError(f"bbox_norm_type={bbox_norm_type!r}; write 'reg_denom' or 'stride'")
        chosen = part(loss_cls, VARIFOCAL) if use_vfl else part(loss_cls_fl, FOCAL_LOSS)
        super().__init__(
            num_classes, in_channels, feat_channels, stacked_convs, strides, dcn_on_last_conv, conv_bias, chosen,
            part(loss_bbox, {"type": "GIoULoss", "loss_weight": 1.5}), bbox_coder, conv_cfg, norm_cfg, train_cfg,
            test_cfg, init_cfg,
        )  # fmt: skip
        self.loss_bbox_refine = part(loss_bbox_refine, {"type": "GIoULoss", "loss_weight": 2.0})
        self.regress_ranges = [(float(low), float(high)) for low, high in regress_ranges]
        farthest = [high for _, high in self.regress_ranges]
        self.reg_denoms = [*farthest[:-1], farthest[-2] * 2]
        self.center_sampling, self.center_sample_radius = center_sampling, center_sample_radius
        self.sync_num_pos, self.gradient_mul, self.bbox_norm_type = sync_num_pos, gradient_mul, bbox_norm_type
        self.use_vfl, self.use_atss, self.reg_decoded_bbox = use_vfl, use_atss, reg_decoded_bbox
        self.atss_prior_generator = part(anchor_generator, SQUARES)
        offset = self.atss_prior_generator.center_offset if use_atss else 0.5
        self.prior_generator = build(
            {"type": "MlvlPointGenerator"}, strides=self.atss_prior_generator.strides, offset=offset
        )
        self.register_buffer("taps", square(POINTS), persistent=False)
        self.build_layers()

    def _init_layers(self) -> None:
        self.cls_convs, self.reg_convs = self._stack(), self._stack()
        channels = self.feat_channels
        self.relu = nn.ReLU()
        self.vfnet_reg_conv = ConvModule(
            channels, channels, 3, padding=1, conv_cfg=self.conv_cfg, norm_cfg=self.norm_cfg, bias=self.conv_bias
        )
        self.vfnet_reg = nn.Conv2d(channels, 4, 3, padding=1)
        self.scales = level_scales(len(self.strides))
        self.vfnet_reg_refine_dconv = DeformConv2d(channels, channels, 3, 1, padding=1)
        self.vfnet_reg_refine = nn.Conv2d(channels, 4, 3, padding=1)
        self.scales_refine = level_scales(len(self.strides))
        self.vfnet_cls_dconv = DeformConv2d(channels, channels, 3, 1, padding=1)
        self.vfnet_cls = nn.Conv2d(channels, self.cls_out_channels, 3, padding=1)

    def init_weights(self) -> None:
        super().init_weights()
        # The one convolution beside the stacks begins as any with an activation does, not as they do.
        nn.init.kaiming_normal_(self.vfnet_reg_conv.conv.weight, mode="fan_out", nonlinearity="relu")  # type: ignore[arg-type]

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return kind_after_kind([self._level(x, level) for level, x in enumerate(feats)])

    def _level(self, x: Tensor, level: int) -> tuple[Tensor, ...]:
        of_class, of_box = through(self.cls_convs, x), through(self.reg_convs, x)
        first = self.vfnet_reg(self.vfnet_reg_conv(of_box))
        offset = self.star_dcn_offset(self._distances(first, level), self.strides[level])
        more = self.vfnet_reg_refine(self.relu(self.vfnet_reg_refine_dconv(of_box, offset)))
        classes = self.vfnet_cls(self.relu(self.vfnet_cls_dconv(of_class, offset)))
        return classes, first, more

    def _distances(self, raw: Tensor, level: int) -> Tensor:
        unit = self.reg_denoms[level] if self.bbox_norm_type == "reg_denom" else self.strides[level]
        return self.scales[level](raw).float().exp() * unit  # type: ignore[no-any-return]

    def star_dcn_offset(self, distances: Tensor, stride: float) -> Tensor:
        """Distances (B, 4, H, W) in pixels -> shifts (B, 18, H, W) of a 3x3 convolution's taps, so that they lie on
        the box: corners, middles of edges, centre."""
        slow = (1 - self.gradient_mul) * distances.detach() + self.gradient_mul * distances
        left, top, right, bottom = (slow / stride).unbind(dim=1)
        none = torch.zeros_like(left)
        rows = [(-top, -left), (-top, none), (-top, right), (none, -left), (none, none), (none, right),
                (bottom, -left), (bottom, none), (bottom, right)]  # fmt: skip
        return torch.stack([side for pair in rows for side in pair], dim=1) - self.taps

    def refine(self, *maps: Levels) -> tuple[Any, ...]:
        cls_scores, raw, more = maps
        first = [self._distances(level, i) for i, level in enumerate(raw)]
        factors = [level.exp() for level in scaled(more, self.scales_refine)]
        refined = [factor * level.detach() for factor, level in zip(factors, first, strict=True)]
        return (cls_scores, first, refined) if self.training else (cls_scores, refined)

    def coding(self) -> Coding:
        return DenseHead.coding(self)  # type: ignore[no-any-return]

    def picking(self) -> Picking:
        return Picking(clips=self.bbox_coder.clip_border)

    def loss_by_feat(self, *maps: Levels, truths: Sequence[Truth], metas: Sequence[PictureMeta]) -> Losses:
        if len(maps) != len(self.kinds):
            raise ValueError("the losses need the boxes of training mode; call train() before the forward pass")
        cls_scores = maps[0]
        points = torch.cat(self.priors_of(cls_scores))
        labels, weights, boxes = self._targets(cls_scores, points, truths, metas)
        index = (labels < self.num_classes).nonzero()[:, 0]
        count: float = len(index)
        if self.sync_num_pos:
            count = max(reduce_mean(points.new_tensor(count)).item(), 1.0)
        logits = concatenated(cls_scores, self.cls_out_channels).flatten(0, 1)
        losses: dict[str, Tensor] = {}
        overlaps = logits.new_zeros(0)
        for name, loss, level in (
            ("loss_bbox", self.loss_bbox, maps[1]), ("loss_bbox_rf", self.loss_bbox_refine, maps[2]),
        ):  # fmt: skip
            distances = concatenated(level, 4).flatten(0, 1)[index]
            predicted, wanted = self.bbox_coder.decode(points[index % len(points)], distances), boxes[index]
            overlaps = bbox_overlaps(predicted.detach(), wanted, is_aligned=True).clamp(min=1e-6)
            average = reduce_mean(overlaps.sum()).clamp(min=1).item()
            losses[name] = (
                loss(predicted, wanted, weight=overlaps, avg_factor=average) if len(index) else distances.sum() * 0
            )
        if self.use_vfl:
            quality = torch.zeros_like(logits)
            quality[index, labels[index]] = overlaps
            losses["loss_cls"] = self.loss_cls(logits, quality, avg_factor=count)
        else:
            losses["loss_cls"] = self.loss_cls(logits, labels, weight=weights, avg_factor=count)
        return dict(losses)

    def _targets(
        self, maps: Levels, points: Tensor, truths: Sequence[Truth], metas: Sequence[PictureMeta]
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """Classes (B * n,), their weights (B * n,) and boxes (B * n, 4) of the points of all levels."""
        sizes = featmap_sizes(maps)
        counts = [h * w for h, w in sizes]
        if not self.use_atss:
            ranges = at_levels(self.regress_ranges, counts, points)  # type: ignore[arg-type]
            reach = at_levels(self.strides, counts, points) * self.center_sample_radius
            reach = reach if self.center_sampling else None  # type: ignore[assignment]
            found = [fcos_targets(points, ranges, truth, self.num_classes, reach) for truth in truths]
            boxes = [torch.cat((points - d[:, :2], points + d[:, 2:]), dim=1) for _, d in found]
            return torch.cat([labels for labels, _ in found]), None, torch.cat(boxes)
        assert self.train_cfg is not None
        cfg, device = self.train_cfg, points.device
        anchors = self.atss_prior_generator.grid_priors(sizes, device=device)
        targets = []
        for truth, meta in zip(truths, metas, strict=True):
            flags = self.atss_prior_generator.valid_flags(sizes, meta["pad_shape"], device)
            inside = inside_of(anchors, flags, meta, cfg.get("allowed_border", -1))
            targets.append(
                assign(
                    cfg["assigner"], cfg.get("sampler"), {"priors": torch.cat(anchors)}, truth,
                    num_classes=self.num_classes, pos_weight=cfg.get("pos_weight", -1), inside=inside, counts=counts,
                )
            )  # fmt: skip
        return (
            torch.cat([t.labels for t in targets]), torch.cat([t.weights for t in targets]),
            torch.cat([t.boxes for t in targets]),
        )  # fmt: skip
