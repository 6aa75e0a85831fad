"""CenterNet of the second kind: a heatmap of centres on each level, distances to edges (arXiv 2103.07461)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hatdet.models.mmdet.heads.base import Levels, Losses, PictureMeta, Truth
from hatdet.models.mmdet.heads.common import featmap_sizes, reduce_mean
from hatdet.models.mmdet.heads.point.anchor_free import AnchorFreeHead
from hatdet.models.mmdet.heads.point.fcos_targets import edge_distances
from hatdet.models.mmdet.heads.towers import (
    GROUP_NORM,
    at_levels,
    concatenated,
    first_weights,
    level_scales,
    part,
    scaled,
)  # fmt: skip
from hatdet.registry import register
from hatdet.utils.annotations import Spec

FAR = 1e9
RANGES: tuple[tuple[float, float], ...] = ((0, 80), (64, 160), (128, 320), (256, 640), (512, FAR))
STEPS = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]
"""Of a cell's neighbours; the fifth is the cell itself."""

FIRST_WEIGHTS = first_weights("conv_cls")


@register(scope="mmdet")
class CenterNetUpdateHead(AnchorFreeHead):
    """Raw maps: ``cls`` (B, classes, H, W) logits, ``bbox`` (B, 4, H, W).

    Distances from the centre of the cell to the left, top, right and bottom edges are max(scale * bbox, 0) strides
    (in training in strides, else in pixels, after :meth:`refine`); the score is sigmoid(cls).

    Args:
        num_classes, in_channels, feat_channels, stacked_convs, strides, dcn_on_last_conv, conv_bias, conv_cfg,
            norm_cfg, loss_cls, loss_bbox, bbox_coder, train_cfg, test_cfg, init_cfg: see :class:`AnchorFreeHead`.
        regress_ranges: of each level, half diagonals of boxes that it learns.
        hm_min_radius: of a centre's reach in the heatmap, in pixels.
        hm_min_overlap: of boxes off by that reach.
        more_pos_thresh: cells around a centre whose box has less loss than this are positives, too;
        more_pos_topk: at most so many of a box, less one.
        soft_weight_on_reg: boxes count as much as the heatmap is high.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        regress_ranges: Sequence[Sequence[float]] = RANGES,
        hm_min_radius: float = 4,
        hm_min_overlap: float = 0.8,
        more_pos_thresh: float = 0.2,
        more_pos_topk: int = 9,
        soft_weight_on_reg: bool = False,
        loss_cls: nn.Module | None = None,
        loss_bbox: nn.Module | None = None,
        norm_cfg: Spec | None = GROUP_NORM,
        train_cfg: dict[str, Any] | None = None,
        test_cfg: Spec | None = None,
        feat_channels: int = 256,
        stacked_convs: int = 4,
        strides: Sequence[int] = (4, 8, 16, 32, 64),
        dcn_on_last_conv: bool = False,
        conv_bias: bool | str = "auto",
        bbox_coder: Any = None,
        conv_cfg: Spec | None = None,
        init_cfg: Spec | list[dict[str, Any]] | None = FIRST_WEIGHTS,
    ) -> None:
        focal = {"type": "GaussianFocalLoss", "pos_weight": 0.25, "neg_weight": 0.75, "loss_weight": 1.0}
        super().__init__(
            num_classes, in_channels, feat_channels, stacked_convs, strides, dcn_on_last_conv, conv_bias,
            part(loss_cls, focal), part(loss_bbox, {"type": "GIoULoss", "loss_weight": 2.0}), bbox_coder, conv_cfg,
            norm_cfg, train_cfg, test_cfg, init_cfg,
        )  # fmt: skip
        self.use_sigmoid_cls, self.cls_out_channels = True, num_classes
        self.regress_ranges = [(float(low), float(high)) for low, high in regress_ranges]
        self.hm_min_radius, self.delta = hm_min_radius, (1 - hm_min_overlap) / (1 + hm_min_overlap)
        self.more_pos_thresh, self.more_pos_topk = more_pos_thresh, more_pos_topk
        self.soft_weight_on_reg, self.sigmoid_clamp = soft_weight_on_reg, 0.0001
        self.build_layers()

    def _init_layers(self) -> None:
        super()._init_layers()
        self.scales = level_scales(len(self.strides))

    def refine(self, *maps: Levels) -> tuple[Any, ...]:
        found = [level.clamp(min=0) for level in scaled(maps[1], self.scales)]
        if not self.training:
            found = [level * s for level, s in zip(found, self.strides, strict=True)]
        return maps[0], found

    def loss_by_feat(self, *maps: Levels, truths: Sequence[Truth], metas: Sequence[PictureMeta]) -> Losses:
        cls_scores, bbox_preds = maps
        if not self.training:  # what refine multiplied by
            bbox_preds = [level / s for level, s in zip(bbox_preds, self.strides, strict=True)]
        points = self.priors_of(cls_scores)
        everywhere, counts = torch.cat(points), [len(level) for level in points]
        logits = concatenated(cls_scores, self.num_classes).flatten(0, 1)
        distances = concatenated(bbox_preds, 4).flatten(0, 1)
        found = [self._targets(everywhere, counts, truth) for truth in truths]
        heat, wanted = torch.cat([h for h, _ in found]), torch.cat([d for _, d in found])
        repeated = everywhere.repeat(len(truths), 1)
        more, more_labels = self.add_cls_pos_inds(repeated, distances.detach(), featmap_sizes(cls_scores), truths)
        count = 0 if more is None else len(more)
        average = max(reduce_mean(distances.new_tensor(float(count))).item(), 1.0)
        scores = logits.sigmoid().clamp(min=self.sigmoid_clamp, max=1 - self.sigmoid_clamp)
        loss_cls = self.loss_cls(scores, heat, pos_inds=more, pos_labels=more_labels, avg_factor=average)
        index = (wanted.amax(dim=1) >= 0).nonzero()[:, 0]
        weights = heat.amax(dim=1)[index]
        weights = weights if self.soft_weight_on_reg else torch.ones_like(weights)
        average = max(reduce_mean(weights.sum()).item(), 1.0)
        if not len(index):
            return {"loss_cls": loss_cls, "loss_bbox": distances.sum() * 0}
        loss_bbox = self.loss_bbox(
            self.bbox_coder.decode(repeated[index], distances[index]),
            self.bbox_coder.decode(repeated[index], wanted[index]), weight=weights, avg_factor=average,
        )  # fmt: skip
        return {"loss_cls": loss_cls, "loss_bbox": loss_bbox}

    @torch.no_grad()
    def _targets(self, points: Tensor, counts: Sequence[int], truth: Truth) -> tuple[Tensor, Tensor]:
        """Heatmaps (n, classes) and distances in strides (n, 4) of one picture, negative where nothing is learned."""
        if not len(truth):
            return points.new_zeros((len(points), self.num_classes)), points.new_full((len(points), 4), -1)
        boxes = truth.bboxes
        strides = at_levels(self.strides, counts, points)[:, None]
        ranges = at_levels(self.regress_ranges, counts, points)  # type: ignore[arg-type]
        distances = edge_distances(points, boxes)
        inside = distances.amin(dim=2) > 0
        centres = ((boxes[:, :2] + boxes[:, 2:]) / 2)[None]
        cells = (centres / strides[..., None]).int() * strides[..., None] + strides[..., None] / 2
        off = points[:, None] - cells
        near = (off.abs() <= strides[..., None]).all(dim=2)
        half = ((distances[..., :2] + distances[..., 2:]) ** 2).sum(dim=2) ** 0.5 / 2
        fits = inside & near & (half >= ranges[:, :1]) & (half <= ranges[:, 1:])
        squared = ((points[:, None] - centres) ** 2).sum(dim=2)
        squared = torch.where((off**2).sum(dim=2) == 0, 0, squared)
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        squared = squared / (self.delta**2 * 2 * areas).clamp(min=self.hm_min_radius**2)
        least, chosen = torch.where(fits, squared, FAR).min(dim=1)
        wanted = distances[torch.arange(len(points), device=points.device), chosen]
        wanted = torch.where((least == FAR)[:, None], -FAR, wanted) / strides
        nearest = squared.new_full((len(points), self.num_classes), torch.inf).scatter_reduce(
            1, truth.labels.expand(len(points), -1), squared, "amin"
        )
        heat = torch.exp(-nearest)
        return torch.where(heat < 0.0001, 0, heat), wanted

    @torch.no_grad()
    def add_cls_pos_inds(
        self, points: Tensor, distances: Tensor, sizes: Sequence[tuple[int, int]], truths: Sequence[Truth]
    ) -> tuple[Tensor | None, Tensor | None]:
        """Cells around the centres of boxes that say their box well enough to be positives of its class.

        Args:
            points: (B * n, 2), all levels of a picture after those of the one before.
            distances: (B * n, 4) in strides.
            sizes: of the levels.
            truths: of the pictures.

        Returns:
            Indices (k,) and classes (k,); None where there are no boxes at all.
        """
        boxes = torch.cat([truth.bboxes for truth in truths])
        if not len(boxes):
            return None, None
        labels = torch.cat([truth.labels for truth in truths])
        picture = torch.arange(len(truths), device=boxes.device).repeat_interleave(
            torch.tensor([len(truth) for truth in truths], device=boxes.device)
        )
        start, cells, wanted, fits = self._centre_cells(boxes, sizes)
        steps = torch.tensor(STEPS, device=boxes.device)  # (9, 2) y, x
        around = cells.flip(2)[:, :, None] + steps
        limits = torch.tensor(sizes, device=boxes.device)[None, :, None]
        known = ((around >= 0) & (around < limits)).all(dim=3)
        shift = torch.cat((steps.flip(1), -steps.flip(1)), dim=1)
        wanted = wanted[:, :, None] + shift
        known &= wanted.amin(dim=3) >= 0
        total = sum(h * w for h, w in sizes)
        index = picture[:, None, None] * total + start[None, :, None] + around[..., 0] * limits[..., 1] + around[..., 1]
        index = torch.where(known, index, 0)
        loss = self.loss_bbox(
            self.bbox_coder.decode(points[index].view(-1, 2), distances[index].view(-1, 4)),
            self.bbox_coder.decode(points[index].view(-1, 2), wanted.clamp(min=0).reshape(-1, 4)), None,
            reduction_override="none",
        ).view(index.shape) / self.loss_bbox.loss_weight  # fmt: skip
        loss = torch.where(known, loss, FAR)
        loss[..., len(STEPS) // 2] = torch.where(fits, 0, loss[..., len(STEPS) // 2])
        loss = loss.flatten(1)
        limit = loss.kthvalue(self.more_pos_topk, dim=1)[0].clamp(max=self.more_pos_thresh)
        chosen = loss < limit[:, None]
        return index.flatten(1)[chosen], labels[:, None].expand_as(chosen)[chosen]

    def _centre_cells(self, boxes: Tensor, sizes: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """First index of each level (levels,); the cell (x, y) of each box's centre on each level, the distances from
        it to the edges in strides and whether the level learns the box: (m, levels, ...)."""
        starts = [0]
        for h, w in sizes[:-1]:
            starts.append(starts[-1] + h * w)
        strides = torch.tensor(self.strides, device=boxes.device)[None, :, None]
        ranges = boxes.new_tensor(self.regress_ranges)[None]
        corners = boxes[:, None].expand(-1, len(sizes), -1)
        cells = ((corners[..., :2] + corners[..., 2:]) / 2 / strides).long()
        at = cells * strides + strides // 2
        distances = torch.cat((at - corners[..., :2], corners[..., 2:] - at), dim=2)
        half = ((distances[..., :2] + distances[..., 2:]) ** 2).sum(dim=2) ** 0.5 / 2
        fits = (half >= ranges[..., 0]) & (half <= ranges[..., 1]) & (distances.amin(dim=2) >= 0)
        return torch.tensor(starts, device=boxes.device), cells, distances / strides, fits
