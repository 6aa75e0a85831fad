"""PAA: a box's candidates are parted by two normal distributions of their losses (arXiv 2007.08103)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from hatdet.models.mmdet import exact
from hatdet.models.mmdet.heads.assignment import Targets
from hatdet.models.mmdet.heads.base import Detections, Levels, Losses, PictureMeta, Truth
from hatdet.models.mmdet.heads.coding import Address, Coding, of_classes, of_coder
from hatdet.models.mmdet.heads.prediction import Candidates, best_priors, finish, in_file_pixels, vote
from hatdet.models.mmdet.heads.quality.atss import ATSSHead
from hatdet.models.mmdet.heads.quality.gaussian_mixture import COVARIANCES, fit_two
from hatdet.models.mmdet.heads.towers import GROUP_NORM, concatenated, first_weights
from hatdet.models.mmdet.overlaps import bbox_overlaps
from hatdet.registry import register
from hatdet.utils.annotations import Spec

EPS = 1e-12


FIRST_WEIGHTS = first_weights("atss_cls")


@dataclass
class Assignment:
    """What the priors of all pictures learn, picture after picture.

    Attributes:
        labels, weights: (B * n,) of classes.
        boxes: (B * n, 4).
        index: of the positives.
        priors: (k, 4) of the positives.
        count: of positives.
    """

    labels: Tensor
    weights: Tensor
    boxes: Tensor
    index: Tensor
    priors: Tensor
    count: int


@register(scope="mmdet")
class PAAHead(ATSSHead):
    """Raw maps and boxes: as :class:`ATSSHead`, ``centerness`` is a logit of the overlap; the score is
    sqrt(sigmoid(cls) * sigmoid(centerness)), and boxes are means of their neighbours with ``score_voting``.

    Args:
        topk: candidates of a box on each level.
        score_voting: see above.
        covariance_type: of the distributions; only ``tied`` differs where there is one number.
        others: see :class:`ATSSHead`.

    Raises:
        ValueError: an unknown ``covariance_type``.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        pred_kernel_size: int = 3,
        stacked_convs: int = 4,
        conv_cfg: Spec | None = None,
        norm_cfg: Spec | None = GROUP_NORM,
        reg_decoded_bbox: bool = True,
        loss_centerness: nn.Module | None = None,
        init_cfg: Spec | list[dict[str, Any]] | None = FIRST_WEIGHTS,
        topk: int = 9,
        score_voting: bool = True,
        covariance_type: str = "diag",
        feat_channels: int = 256,
        anchor_generator: Any = None,
        bbox_coder: Any = None,
        loss_cls: nn.Module | None = None,
        loss_bbox: nn.Module | None = None,
        train_cfg: dict[str, Any] | None = None,
        test_cfg: Spec | None = None,
    ) -> None:
        if covariance_type not in COVARIANCES:
            raise ValueError(f"covariance_type={covariance_type!r}; write one of {', '.join(COVARIANCES)}")
        super().__init__(
            num_classes, in_channels, pred_kernel_size, stacked_convs, conv_cfg, norm_cfg, reg_decoded_bbox,
            loss_centerness, init_cfg, feat_channels, anchor_generator, bbox_coder, loss_cls, loss_bbox, train_cfg,
            test_cfg,
        )  # fmt: skip
        self.topk, self.with_score_voting, self.covariance_type = topk, score_voting, covariance_type

    def loss_by_feat(self, *maps: Levels, truths: Sequence[Truth], metas: Sequence[PictureMeta]) -> Losses:
        return self._losses(maps, self.get_label_assignment(*maps, truths=truths, metas=metas), len(truths), True)

    def _losses(self, maps: Sequence[Levels], found: Assignment, pictures: int, by_overlap: bool) -> Losses:
        """``by_overlap``: the loss of a box counts as much as its overlap."""
        cls_scores, bbox_preds, iou_preds = maps
        logits = concatenated(cls_scores, self.cls_out_channels).flatten(0, 1)
        deltas, overlaps = concatenated(bbox_preds, 4).flatten(0, 1), concatenated(iou_preds, 1).flatten(0, 1)
        losses: dict[str, Tensor] = {
            "loss_cls": self.loss_cls(logits, found.labels, found.weights, avg_factor=max(found.count, pictures))
        }
        if not found.count:
            return {**losses, "loss_bbox": deltas.sum() * 0, "loss_iou": overlaps.sum() * 0}
        boxes, wanted = self.bbox_coder.decode(found.priors, deltas[found.index]), found.boxes[found.index]
        shared = bbox_overlaps(boxes.detach(), wanted, is_aligned=True)
        losses["loss_iou"] = self.loss_centerness(overlaps[found.index], shared[:, None], avg_factor=found.count)
        losses["loss_bbox"] = (
            self.loss_bbox(boxes, wanted, shared.clamp(min=EPS), avg_factor=shared.sum())
            if by_overlap else self.loss_bbox(boxes, wanted, avg_factor=found.count)
        )  # fmt: skip
        return dict(losses)

    @torch.no_grad()
    def get_label_assignment(self, *maps: Levels, truths: Sequence[Truth], metas: Sequence[PictureMeta]) -> Assignment:
        """Which priors learn which box, by how well they say it now."""
        cls_scores, bbox_preds, _ = maps
        anchors = self.anchors(cls_scores)
        everywhere, counts = torch.cat(anchors), [len(level) for level in anchors]
        levels = torch.arange(len(counts), device=everywhere.device).repeat_interleave(
            torch.tensor(counts, device=everywhere.device)
        )
        targets = self.assigned(anchors, cls_scores, truths, metas)
        logits, deltas = concatenated(cls_scores, self.cls_out_channels), concatenated(bbox_preds, 4)
        for picture, target in enumerate(targets):
            index = target.positive.nonzero()[:, 0]
            if len(index):
                said = logits[picture][index], deltas[picture][index]
                losses = self._candidate_losses(everywhere[index], *said, target, index)
                self._part(target, index, losses, levels[index])
        labels = torch.cat([t.labels for t in targets])
        index = (labels < self.num_classes).nonzero()[:, 0]
        return Assignment(
            labels, torch.cat([t.weights for t in targets]), torch.cat([t.boxes for t in targets]), index,
            everywhere[index % len(everywhere)], len(index),
        )  # fmt: skip

    def _candidate_losses(
        self, priors: Tensor, logits: Tensor, deltas: Tensor, target: Targets, index: Tensor
    ) -> Tensor:
        """Of the class and of the box, (k,)."""
        of_class = self.loss_cls(
            logits, target.labels[index], target.weights[index], avg_factor=1.0, reduction_override="none"
        )
        boxes = self.bbox_coder.decode(priors, deltas)
        weight = torch.ones_like(boxes)
        of_box = self.loss_bbox(boxes, target.boxes[index], weight, avg_factor=1.0, reduction_override="none")
        return of_box + of_class.sum(dim=-1)  # type: ignore[no-any-return]

    def _part(self, target: Targets, index: Tensor, losses: Tensor, levels: Tensor) -> None:
        """Make background of what the distributions leave out.

        Args:
            target: of a picture; changed.
            index: of its positives (k,).
            losses: (k,).
            levels: of the positives (k,).
        """
        boxes = target.found[index]
        box_count, level_count = int(boxes.max()) + 1, int(levels.max()) + 1
        order = losses.argsort(stable=True)
        best = order[_rank(boxes[order] * level_count + levels[order]) < self.topk]  # on each level, least loss first
        place = _rank(boxes[best])
        shape = (box_count, level_count * self.topk)
        values, members = losses.new_zeros(shape), index.new_full(shape, -1)
        values[boxes[best], place] = losses[best]
        members[boxes[best], place] = index[best]
        known = members >= 0
        lower, densities = fit_two(values, known, self.covariance_type)
        lower &= known & (known.sum(dim=1, keepdim=True) >= 2)
        last = torch.where(lower, densities, -torch.inf).argmax(dim=1)  # of the lower ones, up to the most typical
        most = torch.where(lower.any(dim=1), lower.cumsum(dim=1).gather(1, last[:, None])[:, 0], 0)
        kept = torch.zeros_like(target.positive)
        kept[members[lower & (lower.cumsum(dim=1) <= most[:, None])]] = True
        target.labels = torch.where(target.positive & ~kept, self.num_classes, target.labels)

    def coding(self) -> Coding:
        return Coding(
            **of_coder(self.bbox_coder), **of_classes(self, each=True), box=Address(1, 0, self.box_channels),
            factor=Address(2, 0, 1), early=True, root=True, by_prior=True, vote=self.with_score_voting,
            ignores=("min_bbox_size",),
        )  # fmt: skip

    def joint_scores(self, logits: Tensor, factors: Tensor) -> Tensor:
        """Logits (..., classes) and (..., 1) -> scores (..., classes)."""
        return exact.sqrt(exact.sigmoid(logits) * exact.sigmoid(factors))

    def boxes_and_scores(self, *maps: Levels) -> tuple[Tensor, Tensor]:
        boxes, _ = super().boxes_and_scores(*maps)
        logits, factors = concatenated(maps[0], self.cls_out_channels), concatenated(maps[2], 1)
        return boxes, self.joint_scores(logits, factors)

    def candidates(
        self,
        logits: Sequence[Tensor],
        values: Sequence[Tensor],
        factors: Sequence[Tensor] | None,
        priors: Sequence[Tensor],
        meta: PictureMeta,
        cfg: Mapping[str, Any],
    ) -> Candidates:
        """All classes above the threshold of the best priors of each level."""
        assert factors is not None
        found = []
        for points, level, box, factor in zip(priors, logits, values, factors, strict=True):
            scores = self.joint_scores(level, factor[:, None])
            index = best_priors(scores, cfg.get("nms_pre", -1))
            boxes = self.bbox_coder.decode(points[index], box[index], max_shape=meta["img_shape"])
            prior, label = (scores[index] > cfg.get("score_thr", 0)).nonzero().unbind(dim=1)
            found.append((boxes[prior], scores[index[prior], label], label))
        return Candidates(*(torch.cat(kind) for kind in zip(*found, strict=True)))

    def finish(
        self, found: Candidates, cfg: Mapping[str, Any], meta: PictureMeta, rescale: bool, with_nms: bool
    ) -> Detections:
        if not with_nms:
            raise ValueError("this head joins its boxes itself; augmented tests need another head")
        if rescale:
            found = replace(found, boxes=in_file_pixels(found.boxes, meta))
        only = {"nms": cfg["nms"], "max_per_img": cfg.get("max_per_img", -1) or -1}  # boxes of any size stay
        kept = finish(found, only, meta)
        if self.with_score_voting:
            kept["boxes"] = vote(kept["boxes"], kept["labels"], found)
        return kept


def _rank(groups: Tensor) -> Tensor:
    """How many before each number of ``groups`` (n,) are equal to it."""
    order = groups.argsort(stable=True)
    ordered = groups[order]
    place = torch.arange(len(groups), device=groups.device)
    first = torch.cat((torch.ones_like(ordered[:1], dtype=torch.bool), ordered[1:] != ordered[:-1]))
    starts = torch.where(first, place, 0).cummax(dim=0)[0]
    return torch.empty_like(place).scatter(0, order, place - starts)
