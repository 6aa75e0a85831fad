"""Which images suffer most, and what they look like."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hatdet.ops.boxes import pairwise_iou
from hatdet.quantization.analysis.layers import OutputNoise
from hatdet.quantization.analysis.result import ImageRow
from hatdet.visualization.draw import Image, caption, draw_boxes, side_by_side

MIN_SCORE = 0.3
MIN_IOU = 0.5
Detections = Mapping[str, Tensor]


def score_change(reference: Detections, tested: Detections) -> float:
    """Sum over detections of how much their score changed; a detection that came or went counts with its score.

    Detections of the same class pair up greedily by score where they overlap by at least ``MIN_IOU``; pairs with a
    score of at least ``MIN_SCORE`` on either side count.
    """
    a, b = (_sure(d, MIN_SCORE / 2) for d in (reference, tested))
    overlap = pairwise_iou(a["boxes"], b["boxes"])
    overlap = overlap * (a["labels"][:, None] == b["labels"][None, :])
    free = [True] * len(b["scores"])
    total = 0.0
    for i, score in enumerate(a["scores"].tolist()):
        fits = [j for j in range(len(free)) if free[j] and float(overlap[i, j]) >= MIN_IOU]
        best = max(fits, key=lambda j: float(overlap[i, j]), default=None)
        other = 0.0
        if best is not None:
            free[best], other = False, float(b["scores"][best])
        if max(score, other) >= MIN_SCORE:
            total += abs(score - other)
    return total + sum(s for s, left in zip(b["scores"].tolist(), free, strict=True) if left and s >= MIN_SCORE)


def _sure(detections: Detections, score: float) -> dict[str, Tensor]:
    keep = detections["scores"] >= score
    return {key: detections[key][keep].cpu() for key in ("boxes", "scores", "labels")}


def image_rows(
    batch: Mapping[str, Any],
    maps: tuple[Sequence[Tensor], Sequence[Tensor]],
    found: tuple[Sequence[Detections], Sequence[Detections]],
) -> Iterable[tuple[ImageRow, Detections, Detections]]:
    """A row for each image of a batch, from the raw maps and the detections of (reference, tested)."""
    names = batch.get("file_name")
    for i, img_id in enumerate(int(v) for v in batch["img_id"]):
        noise = OutputNoise()
        noise.update([m[i : i + 1] for m in maps[0]], [m[i : i + 1] for m in maps[1]])
        a, b = found[0][i], found[1][i]
        boxes = [int((d["scores"] >= MIN_SCORE).sum()) for d in (a, b)]
        name = str(names[i]) if names is not None else ""
        yield ImageRow(img_id, name, noise.sqnr, score_change(a, b), *boxes), a, b


class WorstImages:
    """Keeps the images that suffer most by SQNR and by their detections.

    Args:
        count: how many of each kind.
    """

    def __init__(self, count: int = 4) -> None:
        self.count = count
        self._rows: list[tuple[ImageRow, Detections, Detections]] = []

    def add(self, row: ImageRow, reference: Detections, tested: Detections) -> None:
        """Offer an image."""
        self._rows.append((row, reference, tested))
        by_noise = sorted(self._rows, key=lambda r: (r[0].sqnr != r[0].sqnr, r[0].sqnr))[: self.count]
        by_score = sorted(self._rows, key=lambda r: -r[0].score_change)[: self.count]
        kept = {id(r): r for r in [*by_score, *by_noise]}
        self._rows = list(kept.values())

    @property
    def rows(self) -> list[ImageRow]:
        """Those with the largest change of detections first, then the noisiest."""
        return [row for row, _, _ in self._rows]

    def pictures(self, dataset: Any, stages: tuple[str, str]) -> list[Image | None]:
        """For each row: ground truth, reference and tested detections side by side; None where there is no picture."""
        return [self._picture(dataset, stages, *entry) for entry in self._rows]

    def _picture(
        self, dataset: Any, stages: tuple[str, str], row: ImageRow, reference: Detections, tested: Detections
    ) -> Image | None:
        sample = _raw_sample(dataset, row.img_id)
        if sample is None:
            return None
        image: NDArray[np.uint8] = np.ascontiguousarray(sample.tiles[0].source.pixels())
        scale = 480 / max(image.shape[:2])  # small ones are enlarged, so that labels have room
        boxes, labels = sample.boxes, sample.labels
        parts = [caption(draw_boxes(image, boxes, labels, dataset.classes, scale=scale), "ground truth")]
        for name, found in zip(stages, (reference, tested), strict=True):
            b, s, n = (found[key].cpu().numpy() for key in ("boxes", "scores", "labels"))
            drawn = draw_boxes(image, b, n, dataset.classes, s, MIN_SCORE, scale)
            parts.append(caption(drawn, f"{name} >= {MIN_SCORE:.1f}"))
        return side_by_side(parts)


def _raw_sample(dataset: Any, img_id: int) -> Any:
    """The undecoded sample of an image; None where the data set has no such access."""
    if not callable(getattr(dataset, "raw", None)):
        return None
    return next((s for s in map(dataset.raw, range(len(dataset))) if s.img_id == img_id), None)
