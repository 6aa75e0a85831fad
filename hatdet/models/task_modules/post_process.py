"""From scores and boxes at every prior to the detections of an image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from hatdet.ops import rounded
from hatdet.ops.nms import batched_nms, best_in_order
from hatdet.ops.soft_nms import batched_soft_nms
from hatdet.registry import register
from hatdet.utils.errors import did_you_mean

NMS_TYPES = ("nms", "soft_linear", "soft_gaussian")


@register
class DetectionPostProcess:
    """Score threshold, the best of each level, class-aware suppression, the best of the image.

    The result depends on the values alone: equal scores are taken by level, position, class.

    Args:
        score_thr: (prior, class) pairs with a score above it are candidates.
        nms_pre: candidates kept of each level, the best ones.
        iou_threshold: a box is dropped where its IoU with a better one of its class is greater.
        max_per_img: detections kept of an image.
        multi_label: each class of a prior is a candidate; otherwise only the best one.
        nms_type: ``nms``; or ``soft_linear``, ``soft_gaussian`` (slower), which lower the scores of overlapping boxes
            in place of dropping them: :func:`~hatdet.ops.soft_nms.batched_soft_nms`.
        soft_nms_sigma: of ``soft_gaussian``.
        soft_nms_min_score: boxes whose score falls below are dropped.

    Raises:
        ValueError: numbers out of range.
    """

    names: ClassVar[dict[str, str]] = {
        name: name for name in ("score_thr", "nms_pre", "iou_threshold", "nms_type", "max_per_img", "multi_label")
    }
    """The settings that metadata and messages name, and what they call them."""

    def __init__(
        self,
        *,
        score_thr: float = 0.001,
        nms_pre: int = 30000,
        iou_threshold: float = 0.65,
        max_per_img: int = 300,
        multi_label: bool = True,
        nms_type: str = "nms",
        soft_nms_sigma: float = 0.5,
        soft_nms_min_score: float = 0.001,
    ) -> None:
        if nms_type not in NMS_TYPES:
            raise ValueError(f"unknown nms_type {nms_type!r}{did_you_mean(nms_type, NMS_TYPES)}; one of {NMS_TYPES}")
        names = self.names
        if not 0 <= score_thr < 1 or not 0 <= iou_threshold <= 1:
            raise ValueError(
                f"{names['score_thr']} and {names['iou_threshold']} are between 0 and 1, got {score_thr} and "
                f"{iou_threshold}"
            )
        if nms_pre < 1 or max_per_img < 1:
            raise ValueError(
                f"{names['nms_pre']} and {names['max_per_img']} must be at least 1, got {nms_pre} and {max_per_img}"
            )
        self.score_thr = score_thr
        self.nms_pre = nms_pre
        self.iou_threshold = iou_threshold
        self.max_per_img = max_per_img
        self.multi_label = multi_label
        self.nms_type = nms_type
        self.soft_nms_sigma, self.soft_nms_min_score = soft_nms_sigma, soft_nms_min_score

    def __call__(
        self,
        cls_logits: Tensor,
        boxes: Tensor,
        level_sizes: Sequence[int],
        img_size: Tensor | None = None,
        scale_factor: Tensor | None = None,
        factors: Tensor | None = None,
        passing: Tensor | None = None,
    ) -> list[dict[str, Tensor]]:
        """Detections of each image of a batch.

        Args:
            cls_logits: float32 (B, P, C).
            boxes: float32 (B, P, 4) xyxy in pixels of the network's input.
            level_sizes: how many of the P priors each level has.
            img_size: (B, 2) height and width that boxes are clipped to; None clips nothing.
            scale_factor: (B, 2) network pixels per file pixel, x and y; None: boxes stay in network pixels.
            factors: float32 (B, P, 1): scores are multiplied by their sigmoid.
            passing: bool (B, P): priors that are looked at; None: all.

        Returns:
            For each image ``boxes`` float32 (n, 4) in file pixels, ``scores`` (n,), ``labels`` int64 (n,),
            best first.
        """
        boxes = in_file(boxes, img_size, scale_factor)
        results = []
        for i, logits in enumerate(cls_logits):
            factor, open_ = (None if part is None else part[i] for part in (factors, passing))
            results.append(self._of_logits(logits, factor, open_, boxes[i], level_sizes))
        return results

    def from_scores(
        self,
        scores: Tensor,
        boxes: Tensor,
        level_sizes: Sequence[int],
        img_size: Tensor | None = None,
        scale_factor: Tensor | None = None,
    ) -> list[dict[str, Tensor]]:
        """As the call, of scores (B, P, C) in [0, 1] in the place of logits."""
        boxes = in_file(boxes, img_size, scale_factor)
        return [self._of_scores(s, b, level_sizes) for s, b in zip(scores, boxes, strict=True)]

    def metadata(self) -> dict[str, Any]:
        """What a decoder outside the toolbox needs to find the same boxes."""
        return {"type": type(self).__name__, **{name: getattr(self, own) for own, name in self.names.items()}}

    def _of_logits(
        self, logits: Tensor, factor: Tensor | None, passing: Tensor | None, boxes: Tensor, level_sizes: Sequence[int]
    ) -> dict[str, Tensor]:
        """Detections of one image: logits (P, C), factors (P, 1), priors that pass (P,), boxes (P, 4)."""
        if not self.multi_label:  # the best class is that of the scores: of equal ones the first, whatever the logits
            scores = rounded.sigmoid(logits) if factor is None else rounded.sigmoid(logits) * rounded.sigmoid(factor)
            scores = scores if passing is None else scores.masked_fill(~passing[:, None], 0.0)
            return self._of_scores(scores, boxes, level_sizes)
        rows = None if passing is None else passing.nonzero().squeeze(1)
        flat = (logits if rows is None else logits[rows]).flatten()
        # Few logits are worth a sigmoid in float64: what is not above the threshold with some room to spare is none.
        low = math.log(self.score_thr / (1 - self.score_thr)) - 1e-3 if self.score_thr > 0 else -math.inf
        pairs = (flat > low).nonzero().squeeze(1)
        scores = rounded.sigmoid(flat[pairs])
        if rows is not None:
            prior, label = _split(pairs, logits.shape[1])
            pairs = rows[prior] * logits.shape[1] + label
        if factor is not None:
            scores = scores * rounded.sigmoid(factor[_split(pairs, logits.shape[1])[0], 0])
        above = scores > self.score_thr
        if not bool(above.all()):  # seldom so, without factors
            pairs, scores = pairs[above], scores[above]
        return self._image(pairs, scores, logits.shape[1], None, boxes, level_sizes)

    def _of_scores(self, scores: Tensor, boxes: Tensor, level_sizes: Sequence[int]) -> dict[str, Tensor]:
        labels = None
        if not self.multi_label:
            scores, labels = scores.max(dim=1, keepdim=True)
        flat = scores.flatten()
        pairs = (flat > self.score_thr).nonzero().squeeze(1)
        return self._image(pairs, flat[pairs], scores.shape[1], labels, boxes, level_sizes)

    def _image(
        self,
        pairs: Tensor,
        scores: Tensor,
        classes: int,
        labels: Tensor | None,
        boxes: Tensor,
        level_sizes: Sequence[int],
    ) -> dict[str, Tensor]:
        """Detections of the candidates of an image: indices into its (P * classes) scores, in order, and these;
        ``labels`` (P, 1): where they have one class, which it is."""
        shortlist = min(2 * max(256, self.max_per_img), self.nms_pre)
        if self.nms_type == "nms" and len(pairs) > 2 * shortlist:
            # The best of all are among the best of each level: they often decide, and the rest needs no boxes.
            best = best_in_order(scores, shortlist)
            found = self._suppressed(pairs[best], scores[best], classes, labels, boxes)
            if len(found["scores"]) == self.max_per_img:
                return found
        if len(pairs) > self.nms_pre:
            kept = self._best_of_levels(pairs, scores, [size * classes for size in level_sizes])
            pairs, scores = pairs[kept], scores[kept]
        return self._suppressed(pairs, scores, classes, labels, boxes)

    def _suppressed(
        self, pairs: Tensor, scores: Tensor, classes: int, labels: Tensor | None, boxes: Tensor
    ) -> dict[str, Tensor]:
        prior, label = _split(pairs, classes)
        label = label if labels is None else labels[prior, 0]
        found = boxes[prior]
        solid = (found[:, 2] > found[:, 0]) & (found[:, 3] > found[:, 1])
        return self.suppress(found[solid], scores[solid], label[solid])

    def _best_of_levels(self, pairs: Tensor, scores: Tensor, level_sizes: Sequence[int]) -> Tensor:
        """Indices of the candidates that stay, in order."""
        ends = torch.tensor(level_sizes, device=pairs.device).cumsum(0)
        chosen, start = [], 0
        for end in torch.searchsorted(pairs, ends).tolist():
            best = torch.arange(start, end, device=pairs.device)
            if end - start > self.nms_pre:
                best = best_in_order(scores[start:end], self.nms_pre) + start
            chosen.append(best)
            start = end
        return torch.cat(chosen)

    def suppress(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The last step alone: boxes (n, 4), scores (n,), labels (n,) of one image -> its detections, best first."""
        if self.nms_type == "nms":
            keep = batched_nms(boxes, scores, labels, self.iou_threshold, max_keep=self.max_per_img)
            return {"boxes": boxes[keep], "scores": scores[keep], "labels": labels[keep]}
        keep, lowered = batched_soft_nms(
            boxes,
            scores,
            labels,
            method=self.nms_type.removeprefix("soft_"),
            iou_threshold=self.iou_threshold,
            sigma=self.soft_nms_sigma,
            min_score=self.soft_nms_min_score,
            max_keep=self.max_per_img,
        )
        return {"boxes": boxes[keep], "scores": lowered, "labels": labels[keep]}


def _split(pairs: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Prior and class of indices into flat (P * C) scores."""
    prior = pairs if classes == 1 else pairs.div(classes, rounding_mode="floor")
    return prior, pairs - prior * classes


def in_file(boxes: Tensor, img_size: Tensor | None, scale_factor: Tensor | None) -> Tensor:
    """Boxes (B, P, 4) clipped to the picture, in pixels of its file."""
    if img_size is not None:
        sides = img_size.to(boxes).flip(1).repeat(1, 2)[:, None]  # (B, 1, 4): w, h, w, h
        boxes = torch.minimum(boxes.clamp(min=0), sides)
    return boxes if scale_factor is None else boxes / scale_factor.to(boxes).repeat(1, 2)[:, None]


@register
class RTMDetPostProcess(DetectionPostProcess):
    """RTMDet's, with its own settings as defaults."""
