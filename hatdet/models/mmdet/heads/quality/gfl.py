"""Generalized focal loss: scores are overlaps, edges are distributions (arXiv 2006.04388)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hatdet.models.mmdet import exact
from hatdet.models.mmdet.heads.anchor_tower import SharedTowerHead, centres_of, target_levels
from hatdet.models.mmdet.heads.base import Levels, Losses, PictureMeta, Truth
from hatdet.models.mmdet.heads.coding import Address, Coding, of_classes, of_form
from hatdet.models.mmdet.heads.common import flatten, reduce_mean
from hatdet.models.mmdet.heads.towers import GROUP_NORM, first_weights, level_scales, part, scaled, through
from hatdet.models.mmdet.overlaps import bbox_overlaps
from hatdet.registry import register
from hatdet.utils.annotations import Spec

FIRST_WEIGHTS = first_weights("gfl_cls")


class Integral(nn.Module):
    """Logits of the distances 0, 1, ..., ``reg_max`` to four edges, (..., 4 * (reg_max + 1)) -> their means (n, 4)."""

    def __init__(self, reg_max: int = 16) -> None:
        super().__init__()
        self.reg_max = reg_max
        self.register_buffer("project", torch.linspace(0, reg_max, reg_max + 1))

    def forward(self, x: Tensor) -> Tensor:
        logits = x.reshape(-1, self.reg_max + 1)
        if not x.requires_grad:
            return exact.expectation(logits).reshape(-1, 4)
        return F.linear(F.softmax(logits, dim=1), self.project.type_as(x)[None]).reshape(-1, 4)  # type: ignore[operator]


@register(scope="mmdet")
class GFLHead(SharedTowerHead):
    """Raw maps: ``cls`` (B, classes, H, W) logits, ``bbox`` (B, 4 * (reg_max + 1), H, W).

    scale * bbox are logits of distances of 0 to ``reg_max`` strides from the centre of the anchor to the left, top,
    right and bottom edges; the box is made of their means (:class:`Integral`); its score is sigmoid(cls).

    Args:
        loss_dfl: built loss of the distributions.
        reg_max: the farthest an edge may be, in strides.
        others: see :class:`AnchorTowerHead`; the coder is one of distances.

    Raises:
        ValueError: more than one anchor a position.
    """

    kinds = ("cls", "bbox")

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        stacked_convs: int = 4,
        conv_cfg: Spec | None = None,
        norm_cfg: Spec | None = GROUP_NORM,
        loss_dfl: nn.Module | None = None,
        bbox_coder: Any = None,
        reg_max: int = 16,
        init_cfg: Spec | list[dict[str, Any]] | None = FIRST_WEIGHTS,
        feat_channels: int = 256,
        anchor_generator: Any = None,
        reg_decoded_bbox: bool = False,
        loss_cls: nn.Module | None = None,
        loss_bbox: nn.Module | None = None,
        train_cfg: dict[str, Any] | None = None,
        test_cfg: Spec | None = None,
    ) -> None:
        super().__init__(
            num_classes, in_channels, feat_channels, stacked_convs, conv_cfg, norm_cfg, 3, anchor_generator,
            part(bbox_coder, {"type": "DistancePointBBoxCoder"}), reg_decoded_bbox, loss_cls, loss_bbox, train_cfg,
            test_cfg, init_cfg,
        )  # fmt: skip
        if self.num_base_priors != 1:
            raise ValueError(f"anchor_generator gives {self.num_base_priors} anchors a position; this head takes one")
        self.reg_max, self.box_channels = reg_max, 4 * (reg_max + 1)
        self.loss_dfl = part(loss_dfl, {"type": "DistributionFocalLoss", "loss_weight": 0.25})
        self.build_layers()

    def _init_layers(self) -> None:
        self.cls_convs, self.reg_convs = self._stack(), self._stack()
        self.gfl_cls, self.gfl_reg = self._last(self.cls_out_channels), self._last(self.box_channels)
        self.scales = level_scales(self.prior_generator.num_levels)
        self.integral = Integral(self.reg_max)

    def forward_single(self, x: Tensor) -> tuple[Tensor, ...]:
        return self.gfl_cls(through(self.cls_convs, x)), self.gfl_reg(through(self.reg_convs, x))

    def refine(self, *maps: Levels) -> tuple[Any, ...]:
        return maps[0], scaled(maps[1], self.scales)

    def loss_by_feat(self, *maps: Levels, truths: Sequence[Truth], metas: Sequence[PictureMeta]) -> Losses:
        losses, total = self._level_losses(maps, truths, metas, None)
        average = reduce_mean(total).clamp(min=1).item()
        for name in ("loss_bbox", "loss_dfl"):
            losses[name] = [loss / average for loss in losses[name]]
        return dict(losses)

    def _level_losses(
        self,
        maps: Sequence[Levels],
        truths: Sequence[Truth],
        metas: Sequence[PictureMeta],
        soft: Levels | None,
    ) -> tuple[dict[str, list[Tensor]], Tensor]:
        """Losses of each level, and the sum of the weights of boxes that they are to be divided by.

        ``soft``: maps like ``bbox`` of another head, to learn of.
        """
        cls_scores, bbox_preds = maps
        anchors = self.anchors(cls_scores)
        targets = self.assigned(anchors, cls_scores, truths, metas)
        labels, weights, boxes = target_levels(targets, [len(level) for level in anchors])
        count = reduce_mean(anchors[0].new_tensor(float(sum(t.count for t in targets)))).item()
        losses: dict[str, list[Tensor]] = {"loss_cls": [], "loss_bbox": [], "loss_dfl": []}
        if soft is not None:
            losses["loss_ld"] = []
        total = anchors[0].new_zeros(())
        for level, classes in enumerate(labels):
            logits = flatten(cls_scores[level], self.cls_out_channels).flatten(0, 1)
            edges = flatten(bbox_preds[level], self.box_channels).flatten(0, 1)
            quality = torch.zeros_like(weights[level])
            index = (classes < self.num_classes).nonzero()[:, 0]
            if len(index):
                own = centres_of(anchors[level])[index % len(anchors[level])] / self.level_strides[level]
                wanted = boxes[level][index] / self.level_strides[level]
                sure = logits.detach()[index].sigmoid().amax(dim=1)
                predicted = self.bbox_coder.decode(own, self.integral(edges[index]))
                quality[index] = bbox_overlaps(predicted.detach(), wanted, is_aligned=True)
                losses["loss_bbox"].append(self.loss_bbox(predicted, wanted, weight=sure, avg_factor=1.0))
                shares, of_edges = edges[index].reshape(-1, self.reg_max + 1), sure[:, None].expand(-1, 4).reshape(-1)
                distances = self.bbox_coder.encode(own, wanted, self.reg_max).reshape(-1)
                losses["loss_dfl"].append(self.loss_dfl(shares, distances, weight=of_edges, avg_factor=4.0))
                if soft is not None:
                    other = flatten(soft[level], self.box_channels).flatten(0, 1)[index].reshape(-1, self.reg_max + 1)
                    losses["loss_ld"].append(self.loss_ld(shares, other, weight=of_edges, avg_factor=4.0))  # type: ignore[operator]
                total = total + sure.sum()
            else:
                for name in ("loss_bbox", "loss_dfl", *(() if soft is None else ("loss_ld",))):
                    losses[name].append(edges.sum() * 0)
            losses["loss_cls"].append(
                self.loss_cls(logits, (classes, quality), weight=weights[level], avg_factor=count)
            )
        return losses, total

    def priors_of(self, maps: Levels) -> list[Tensor]:
        """Centres (n_i, 2) of the anchors of each level."""
        return [centres_of(level) for level in self.anchors(maps)]

    def coding(self) -> Coding:
        known = {**of_form(self.bbox_coder, "sides"), **of_classes(self), "form": "bins"}
        return Coding(**known, box=Address(1, 0, self.box_channels), num_bins=self.reg_max + 1)

    def box_values(self, values: Tensor, level: int) -> Tensor:
        return self.integral(values) * self.level_strides[level]  # type: ignore[no-any-return]
