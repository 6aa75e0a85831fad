"""From maps to the boxes of a picture: what dense heads have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hatdet.models.mmdet import exact
from hatdet.models.mmdet.heads.base import DenseHead, Detections, Levels, PictureMeta
from hatdet.models.mmdet.heads.coding import Coding, of_predictions, table_of
from hatdet.models.mmdet.heads.common import featmap_sizes, filter_scores_and_topk, flatten
from hatdet.models.mmdet.heads.suppression import suppress
from hatdet.models.mmdet.overlaps import bbox_overlaps

LEAST_OVERLAP = 0.01
"""Of a candidate that votes."""
NEARNESS = 0.025
"""Of a vote: exp(-(1 - overlap) ** 2 / this)."""


@dataclass
class Candidates:
    """Boxes of one picture before one suppresses another.

    Attributes:
        boxes: (n, 4) xyxy in network pixels.
        scores: (n,).
        labels: (n,).
        factors: (n,) that ``scores`` are multiplied by (centerness, IoU), or None.
        groups: (n,): boxes of different groups do not suppress each other; None: groups are the labels.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    factors: Tensor | None = None
    groups: Tensor | None = None


def finish(
    found: Candidates, cfg: Mapping[str, Any], meta: PictureMeta, rescale: bool = False, with_nms: bool = True
) -> Detections:
    """Candidates -> detections: pixels of the file, factors, smallest size, suppression, the best so many.

    Args:
        found: the candidates.
        cfg: ``min_bbox_size`` (a box must be wider and higher), ``nms``, ``max_per_img`` (-1: all).
        meta: of the picture: ``scale_factor`` where ``rescale``.
        rescale: boxes in pixels of the file.
        with_nms: False: all candidates, as they are.
    """
    boxes, scores, labels = found.boxes, found.scores, found.labels
    if rescale:
        boxes = in_file_pixels(boxes, meta)
    if found.factors is not None:
        scores = scores * found.factors
    groups = labels if found.groups is None else found.groups
    smallest = cfg.get("min_bbox_size", -1)
    if smallest >= 0:
        large = (boxes[:, 2:] - boxes[:, :2] > smallest).all(dim=1)
        boxes, scores, labels, groups = boxes[large], scores[large], labels[large], groups[large]
    if with_nms and len(boxes):
        keep, scores = suppress(boxes, scores, groups, cfg["nms"], cfg.get("max_per_img", -1))
        boxes, labels = boxes[keep], labels[keep]
    return {"boxes": boxes, "scores": scores, "labels": labels}


def best_in_order(scores: Tensor, score_thr: float, topk: int) -> tuple[Tensor, Tensor, Tensor]:
    """Scores, classes and priors of the best pairs (:func:`filter_scores_and_topk`), by prior and class: of equal
    products with a factor the first one wins, whatever the classes' own scores are."""
    found, labels, priors, _ = filter_scores_and_topk(scores, score_thr, topk)
    order = (priors * scores.shape[1] + labels).argsort()
    return found[order], labels[order], priors[order]


def best_priors(scores: Tensor, most: int) -> Tensor:
    """Indices in order of the ``most`` rows (0 or less: all) of (n, classes) with the highest scores."""
    if not 0 < most < len(scores):
        return torch.arange(len(scores), device=scores.device)
    return scores.amax(dim=1).sort(descending=True, stable=True).indices[:most].sort().values


def vote(boxes: Tensor, labels: Tensor, found: Candidates) -> Tensor:
    """Means (k, 4) of the candidates around detections, weighted by score and nearness.

    Sums go from the best candidate to the worst, in float64, as in the decoders.

    Args:
        boxes: (k, 4).
        labels: (k,).
        found: the candidates before suppression; those of the detection's class vote.
    """
    order = found.scores.sort(descending=True, stable=True).indices
    around, scores, classes = found.boxes[order], found.scores[order], found.labels[order]
    overlaps = bbox_overlaps(boxes, around)
    box, member = ((overlaps > LEAST_OVERLAP) & (labels[:, None] == classes)).nonzero().unbind(dim=1)
    far = 1 - overlaps[box, member]
    weights = (exact.exp(exact.divide(-(far * far), NEARNESS)) * scores[member]).double()
    total = weights.new_zeros(len(boxes)).index_add(0, box, weights)
    sums = weights.new_zeros(boxes.shape).index_add(0, box, weights[:, None] * around[member].double())
    mean = (sums / total[:, None]).to(boxes.dtype)
    return torch.where(total[:, None] > 0, mean, boxes)  # a box without an area overlaps none


def in_file_pixels(boxes: Tensor, meta: PictureMeta) -> Tensor:
    """Boxes (n, 4) in network pixels -> in pixels of the file."""
    x, y = (1 / factor for factor in meta["scale_factor"])
    return boxes * boxes.new_tensor([x, y, x, y])


class PredictingHead(DenseHead):
    """A dense head whose maps are classes and boxes of priors, and perhaps a factor of the scores.

    A subclass has the attributes below and may say otherwise how a map becomes scores
    (:meth:`class_scores`), numbers for the coder (:meth:`box_values`) or factors (:meth:`score_factors`).

    Attributes:
        cls_out_channels: numbers of a prior in the map of classes: a softmax has one more than classes.
        use_sigmoid_cls: each class for itself; False: a softmax whose last is the background.
        prior_generator: has ``grid_priors``.
        bbox_coder: has ``decode(priors, values, max_shape=)``.
        box_channels: numbers of a prior in the map of boxes.
    """

    cls_out_channels: int
    use_sigmoid_cls: bool
    prior_generator: Any
    bbox_coder: Any
    box_channels: int = 4

    def class_scores(self, logits: Tensor) -> Tensor:
        """(n, cls_out_channels) -> (n, num_classes)."""
        loss = getattr(self, "loss_cls", None)
        if getattr(loss, "custom_cls_channels", False):
            return loss.get_activation(logits)  # type: ignore[union-attr, no-any-return]
        return exact.sigmoid(logits) if self.use_sigmoid_cls else exact.softmax(logits)[..., :-1]

    def box_values(self, values: Tensor, level: int) -> Tensor:
        """(k, box_channels) of a level, as the map has them -> (k, encode_size), as the coder wants them."""
        return values

    def score_factors(self, values: Tensor) -> Tensor:
        """(n,) as the map has them -> (n,) between 0 and 1."""
        return exact.sigmoid(values)

    def scores_of(self, logits: Tensor, factors: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Scores (n, num_classes) that are asked for the threshold, and factors that are not multiplied yet."""
        return self.class_scores(logits), factors

    def boxes_and_scores(self, *maps: Levels) -> tuple[Tensor, Tensor]:
        refined = self.refine(*maps)
        priors, cls_scores, bbox_preds = self.priors_of(refined[0]), refined[0], refined[1]
        scores = torch.cat([self.class_scores(flatten(m, self.cls_out_channels)) for m in cls_scores], dim=1)
        if len(refined) > 2:
            scores = scores * torch.cat([self.score_factors(flatten(m, 1)) for m in refined[2]], dim=1)
        rows = [flatten(m, self.box_channels) for m in bbox_preds]
        values = [
            self.box_values(level.flatten(0, 1), number).unflatten(0, level.shape[:2])
            for number, level in enumerate(rows)
        ]
        return self.bbox_coder.decode(torch.cat(priors), torch.cat(values, dim=1)), scores

    def coding(self) -> Coding:
        return of_predictions(self)

    def box_table(self, rows: Tensor, level: int) -> Tensor:
        first = self.prior_generator.grid_priors([(1, 1)] * len(self.level_strides), dtype=rows.dtype)[level][0]
        size = (first[2:] - first[:2]).tolist() if len(first) == 4 else (0.0, 0.0)
        return table_of(self.bbox_coder, self.box_values(rows, level), size, self.level_strides[level])

    def priors_of(self, maps: Levels) -> list[Tensor]:
        """Priors of each level of ``maps``."""
        return self.prior_generator.grid_priors(  # type: ignore[no-any-return]
            featmap_sizes(maps), dtype=maps[0].dtype, device=maps[0].device
        )

    def predict_by_feat(
        self,
        *maps: Levels,
        metas: Sequence[PictureMeta],
        cfg: Mapping[str, Any] | None = None,
        rescale: bool = False,
        with_nms: bool = True,
    ) -> list[Detections]:
        """Detections of each picture.

        Args:
            maps: classes (B, A * cls_out_channels, H, W), boxes (B, A * box_channels, H, W) and, where the head has
                them, factors (B, A, H, W).
            metas: of the pictures.
            cfg: in the place of ``test_cfg``: ``nms_pre`` pairs of prior and class a level (-1: all) above
                ``score_thr``, and what :func:`finish` reads.
            rescale: boxes in pixels of the file.
            with_nms: False: the candidates.
        """
        cfg = (self.test_cfg or {}) if cfg is None else cfg
        cls_scores, bbox_preds, *more = maps
        factors = more[0] if more else None
        priors = self.priors_of(cls_scores)
        logits = [flatten(level.detach(), self.cls_out_channels) for level in cls_scores]
        values = [flatten(level.detach(), self.box_channels) for level in bbox_preds]
        extra = None if factors is None else [flatten(level.detach(), 1)[..., 0] for level in factors]
        found = []
        for index, meta in enumerate(metas):
            candidates = self.candidates(
                [level[index] for level in logits], [level[index] for level in values],
                None if extra is None else [level[index] for level in extra], priors, meta, cfg,
            )  # fmt: skip
            found.append(self.finish(candidates, cfg, meta, rescale, with_nms))
        return found

    def candidates(
        self,
        logits: Sequence[Tensor],
        values: Sequence[Tensor],
        factors: Sequence[Tensor] | None,
        priors: Sequence[Tensor],
        meta: PictureMeta,
        cfg: Mapping[str, Any],
    ) -> Candidates:
        """What is above the threshold in one picture, the best of each level, decoded.

        Args:
            logits: (n_i, cls_out_channels) of each level.
            values: (n_i, box_channels).
            factors: (n_i,), or None.
            priors: (n_i, 4) or as the coder wants them.
            meta: of the picture; boxes are clipped to ``img_shape``.
            cfg: ``score_thr``, ``nms_pre``.
        """
        scores, labels, kept_priors, kept_values, kept_factors = [], [], [], [], []
        for level, points in enumerate(priors):
            every, factor = self.scores_of(logits[level], None if factors is None else factors[level])
            best, classes, index = best_in_order(every, cfg.get("score_thr", 0), cfg.get("nms_pre", -1))
            scores.append(best)
            labels.append(classes)
            kept_priors.append(points[index])
            kept_values.append(self.box_values(values[level][index], level))
            if factor is not None:
                kept_factors.append(self.score_factors(factor[index]))
        boxes = self.bbox_coder.decode(torch.cat(kept_priors), torch.cat(kept_values), max_shape=meta["img_shape"])
        return Candidates(
            boxes, torch.cat(scores), torch.cat(labels), torch.cat(kept_factors) if kept_factors else None
        )

    def finish(
        self, found: Candidates, cfg: Mapping[str, Any], meta: PictureMeta, rescale: bool, with_nms: bool
    ) -> Detections:
        """:func:`finish`, for subclasses that end otherwise."""
        return finish(found, cfg, meta, rescale, with_nms)
