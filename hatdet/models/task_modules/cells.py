"""Objects as cells of a map: what each cell learns, and which cells are detections."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from hatdet.models.task_modules.post_process import in_file
from hatdet.registry import register


def cell_targets(gt_boxes: Tensor, gt_labels: Tensor, size: tuple[int, int], stride: int) -> Tensor:
    """What each cell learns: the class of the object whose centre lies in it.

    A centre is the middle of the box as it is in the picture; one on a border belongs to the cell at its right or
    below. Of several objects with their centres in one cell it learns the smallest, of equal ones the first.

    Args:
        gt_boxes: (B, M, 4), xyxy in network pixels.
        gt_labels: int64 (B, M), -1 where padded.
        size: (height, width) of the map.
        stride: pixels of a cell's side.

    Returns:
        int64 (B, height * width), row by row: 0: background, k + 1: class k.
    """
    height, width = size
    cells = ((gt_boxes[..., :2] + gt_boxes[..., 2:]) * (0.5 / stride)).floor()
    column, row = cells.unbind(-1)
    inside = (gt_labels >= 0) & (row >= 0) & (row < height) & (column >= 0) & (column < width)
    place = (row * width + column).where(inside, -1.0).long()  # (B, M)
    here = place[:, None] == torch.arange(height * width, device=place.device)[:, None]  # (B, P, M)
    area = (gt_boxes[..., 2:] - gt_boxes[..., :2]).prod(-1)[:, None].expand_as(here).where(here, torch.inf)
    smallest = area.argmin(dim=2)  # of equal ones the first
    return torch.where(here.any(dim=2), gt_labels.gather(1, smallest) + 1, 0)


def cell_boxes(size: tuple[int, int], stride: int, device: torch.device | str = "cpu") -> Tensor:
    """The squares of all cells, row by row: float32 (height * width, 4), xyxy in network pixels."""
    height, width = size
    x = torch.arange(width, dtype=torch.float32, device=device).repeat(height) * stride
    y = torch.arange(height, dtype=torch.float32, device=device).repeat_interleave(width) * stride
    return torch.stack((x, y, x + stride, y + stride), dim=1)


@register
class CellPostProcess:
    """Cells with a score above a threshold, neighbours of a class fused into the best of them.

    The rule: a cell is a candidate for the class with its highest score (of equal ones the first) where that is above
    ``score_thr`` and the cell touches the picture (cells of the padding do not). Candidates are taken by descending
    score, of equal ones the upper left first, row by row; one is a detection unless a detection of its class lies
    within ``fuse`` cells of it, to the sides and diagonally. Its box is the square of that one cell, cut at the
    picture's edge; the middle of the box is the point.

    So what is found at a threshold is what a lower one finds, less the detections with lower scores: precision and
    recall at all thresholds are those of one pass. Edge Impulse's runtime joins touching cells of a class, in the order
    of the picture, into one rectangle instead, which depends on the threshold and grows over neighbours that touch.

    Args:
        score_thr: of evaluation; a device takes a higher one.
        fuse: cells; 0: every candidate is a detection.
        max_per_img: detections kept of an image, the best ones.

    Raises:
        ValueError: numbers out of range.
    """

    def __init__(self, *, score_thr: float = 0.05, fuse: int = 1, max_per_img: int = 100) -> None:
        if not 0 <= score_thr < 1:
            raise ValueError(f"score_thr is at least 0 and below 1, got {score_thr}")
        if fuse < 0 or max_per_img < 1:
            raise ValueError(f"fuse is at least 0 and max_per_img at least 1, got {fuse} and {max_per_img}")
        self.score_thr, self.fuse, self.max_per_img = score_thr, fuse, max_per_img

    def __call__(
        self,
        scores: Tensor,
        size: tuple[int, int],
        stride: int,
        img_size: Tensor | None = None,
        scale_factor: Tensor | None = None,
    ) -> list[dict[str, Tensor]]:
        """Detections of each image of a batch.

        Args:
            scores: float32 (B, height * width, K), row by row, without background.
            size: (height, width) of the map.
            stride: network pixels of a cell's side.
            img_size: (B, 2) height and width that boxes are cut to; None: they are not.
            scale_factor: (B, 2) network pixels per file pixel, x and y; None: boxes stay in network pixels.

        Returns:
            For each image ``boxes`` float32 (n, 4) in file pixels, ``scores`` (n,), ``labels`` int64 (n,),
            best first.
        """
        boxes = cell_boxes(size, stride, scores.device).expand(len(scores), -1, -1)
        boxes = in_file(boxes, img_size, scale_factor)
        return [self._image(one, own, size) for one, own in zip(scores, boxes, strict=True)]

    def _image(self, scores: Tensor, boxes: Tensor, size: tuple[int, int]) -> dict[str, Tensor]:
        best, labels = scores.max(dim=1)
        solid = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        cells = ((best > self.score_thr) & solid).nonzero().squeeze(1)
        cells = cells[torch.sort(best[cells], descending=True, stable=True).indices]
        keep = cells[self._fused(cells, labels[cells], scores.shape[1], size)]
        return {"boxes": boxes[keep], "scores": best[keep], "labels": labels[keep]}

    def _fused(self, cells: Tensor, labels: Tensor, classes: int, size: tuple[int, int]) -> Tensor:
        """Indices of the detections among candidates, best first."""
        taken = np.zeros((classes, *size), bool)
        kept: list[int] = []
        for index, (cell, label) in enumerate(zip(cells.tolist(), labels.tolist(), strict=True)):
            row, column = divmod(cell, size[1])
            if taken[label, row, column]:
                continue
            kept.append(index)
            if len(kept) == self.max_per_img:
                break
            rows, columns = (slice(max(0, at - self.fuse), at + self.fuse + 1) for at in (row, column))
            taken[label, rows, columns] = True
        return torch.tensor(kept, dtype=torch.int64, device=cells.device)

    def metadata(self) -> dict[str, Any]:
        """What a decoder outside the toolbox needs to find the same cells."""
        settings = {name: getattr(self, name) for name in ("score_thr", "fuse", "max_per_img")}
        return {"type": type(self).__name__, **settings}
