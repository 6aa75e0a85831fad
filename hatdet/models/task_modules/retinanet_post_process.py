"""From RetinaNet's raw maps to the detections of an image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hatdet.ops import rounded
from hatdet.ops.nms import batched_nms
from hatdet.registry import register


@dataclass(frozen=True)
class AnchorLevel:
    """One level of a batch: P = H * W * A anchors, K classes.

    Attributes:
        logits: float32 (B, P, K).
        deltas: float32 (B, P, 4).
        anchors: float32 (P, 4).
        keep: bool (B, P), anchors that are looked at; None: all.
        scored: ``logits`` are scores in [0, 1] already.
    """

    logits: Tensor
    deltas: Tensor
    anchors: Tensor
    keep: Tensor | None = None
    scored: bool = False


@register
class RetinaNetPostProcess:
    """Score threshold and the best pairs of each level, decoding, clipping, class-aware suppression.

    The result depends on the values alone: equal scores are taken by level, position, anchor, class.

    Args:
        score_thresh: (anchor, class) pairs with a score above it are candidates.
        nms_thresh: a box is dropped where its IoU with a better one of its class is greater.
        detections_per_img: detections kept of an image.
        topk_candidates: candidates kept of each level, the best ones.

    Raises:
        ValueError: numbers out of range.
    """

    def __init__(
        self,
        *,
        score_thresh: float = 0.05,
        nms_thresh: float = 0.5,
        detections_per_img: int = 300,
        topk_candidates: int = 1000,
    ) -> None:
        if not 0 <= score_thresh < 1 or not 0 <= nms_thresh <= 1:
            raise ValueError(f"score_thresh and nms_thresh are between 0 and 1, got {score_thresh} and {nms_thresh}")
        if detections_per_img < 1 or topk_candidates < 1:
            raise ValueError(
                "detections_per_img and topk_candidates must be at least 1, got "
                f"{detections_per_img} and {topk_candidates}"
            )
        self.score_thresh = score_thresh
        self.nms_thresh = nms_thresh
        self.detections_per_img = detections_per_img
        self.topk_candidates = topk_candidates

    def __call__(
        self,
        levels: Sequence[AnchorLevel],
        decode: Callable[[Tensor, Tensor], Tensor],
        img_size: Tensor | None = None,
        scale_factor: Tensor | None = None,
    ) -> list[dict[str, Tensor]]:
        """Detections of each image of a batch.

        Args:
            levels: finest first.
            decode: ``(anchors, deltas) -> boxes`` (n, 4), xyxy in pixels of the network's input.
            img_size: (B, 2) height and width that boxes are clipped to; None clips nothing.
            scale_factor: (B, 2) network pixels per file pixel, x and y; None: boxes stay in network pixels.

        Returns:
            For each image ``boxes`` float32 (n, 4) in file pixels, ``scores`` (n,), ``labels`` int64 (n,), best first.
        """
        results = []
        for image in range(len(levels[0].logits)):
            boxes, scores, labels = self._candidates(levels, image, decode)
            if img_size is not None:
                boxes = torch.minimum(boxes.clamp(min=0), img_size[image].to(boxes).flip(0).repeat(2))
            if scale_factor is not None:
                boxes = boxes / scale_factor[image].to(boxes).repeat(2)
            solid = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
            boxes, scores, labels = boxes[solid], scores[solid], labels[solid]
            kept = batched_nms(boxes, scores, labels, self.nms_thresh, max_keep=self.detections_per_img)
            results.append({"boxes": boxes[kept], "scores": scores[kept], "labels": labels[kept]})
        return results

    def metadata(self) -> dict[str, Any]:
        """What a decoder outside the toolbox needs to find the same boxes."""
        return {
            "type": type(self).__name__,
            "score_thresh": self.score_thresh,
            "nms_thresh": self.nms_thresh,
            "detections_per_img": self.detections_per_img,
            "topk_candidates": self.topk_candidates,
        }

    def _candidates(
        self, levels: Sequence[AnchorLevel], image: int, decode: Callable[[Tensor, Tensor], Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        boxes, scores, labels = [], [], []
        for level in levels:
            logits, anchors, deltas = level.logits[image], level.anchors, level.deltas[image]
            if level.keep is not None:
                kept = level.keep[image].nonzero().squeeze(1)
                logits, anchors, deltas = logits[kept], anchors[kept], deltas[kept]
            flat = (logits if level.scored else rounded.sigmoid(logits)).flatten()
            pairs = (flat > self.score_thresh).nonzero().squeeze(1)
            if pairs.numel() > self.topk_candidates:
                best = torch.sort(flat[pairs], descending=True, stable=True).indices[: self.topk_candidates]
                pairs = pairs[best].sort().values
            anchor = pairs.div(logits.shape[1], rounding_mode="floor")
            boxes.append(decode(anchors[anchor], deltas[anchor]))
            scores.append(flat[pairs])
            labels.append(pairs - anchor * logits.shape[1])
        return torch.cat(boxes), torch.cat(scores), torch.cat(labels)
