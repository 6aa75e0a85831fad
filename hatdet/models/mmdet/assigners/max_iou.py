"""Assignment by overlap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from hatdet.models.mmdet.assigners.repeated import moved_apart
from hatdet.models.mmdet.assigners.result import AssignResult, assigned, last_pairs
from hatdet.models.mmdet.assigners.scan import Table, greatest
from hatdet.models.mmdet.overlaps import BboxOverlaps2D, iou2d_calculator
from hatdet.registry import register
from hatdet.utils.annotations import Spec

Threshold = float | Sequence[float]


def bounds(neg_iou_thr: Threshold) -> tuple[float, float]:
    """Least and greatest overlap of background.

    Raises:
        ValueError: neither a number nor two.
    """
    if not isinstance(neg_iou_thr, Sequence):
        return 0.0, neg_iou_thr
    if len(neg_iou_thr) != 2:
        raise ValueError(f"neg_iou_thr is a number or (from, to), got {neg_iou_thr}")
    return neg_iou_thr[0], neg_iou_thr[1]


@register(scope="mmdet")
class MaxIoUAssigner:
    """Each prior takes the box that it overlaps most, each box the priors that overlap it most (arXiv 1506.01497).

    ``max_overlaps`` of the result is the greatest overlap with a box, -1 where the prior is ignored.

    Args:
        pos_iou_thr: from this overlap on a prior learns the box.
        neg_iou_thr: below it a prior is background; or (from, to): from the first, below the second.
        min_pos_iou: from this overlap on a box also gets the priors that overlap it most, the last box of several.
        gt_max_assign_all: all of equal overlap, else the first of them.
        ignore_iof_thr: a prior is ignored that lies in an ignored box with more than this share of its area;
            -1: never.
        ignore_wrt_candidates: shares of the prior's area, else of the ignored box's.
        match_low_quality: whether boxes get priors below ``pos_iou_thr`` at all.
        gpu_assign_thr: with more boxes than this the work is done on the CPU; -1: never.
        iou_calculator: :class:`BboxOverlaps2D` if not given.
        perm_repeat_gt_cfg: ``iou_thr`` and ``perm_range``: boxes that are there more than once are moved apart by
            random factors from 1 - range to 1 + range, so that each gets priors.
    """

    def __init__(
        self,
        pos_iou_thr: float,
        neg_iou_thr: Threshold,
        min_pos_iou: float = 0.0,
        gt_max_assign_all: bool = True,
        ignore_iof_thr: float = -1,
        ignore_wrt_candidates: bool = True,
        match_low_quality: bool = True,
        gpu_assign_thr: float = -1,
        iou_calculator: BboxOverlaps2D | None = None,
        perm_repeat_gt_cfg: Spec | None = None,
    ) -> None:
        self.pos_iou_thr = pos_iou_thr
        self.neg_iou_thr = neg_iou_thr
        self._background = bounds(neg_iou_thr)
        self.min_pos_iou = min_pos_iou
        self.gt_max_assign_all = gt_max_assign_all
        self.ignore_iof_thr = ignore_iof_thr
        self.ignore_wrt_candidates = ignore_wrt_candidates
        self.match_low_quality = match_low_quality
        self.gpu_assign_thr = gpu_assign_thr
        self.iou_calculator = iou_calculator or iou2d_calculator()
        self.perm_repeat_gt_cfg: Mapping[str, Any] | None = perm_repeat_gt_cfg

    @torch.no_grad()
    def assign(
        self, pred_instances: Any, gt_instances: Any, gt_instances_ignore: Any = None, **kwargs: Any
    ) -> AssignResult:
        """Assign ``priors`` (n, 4) to ``bboxes`` (m, 4) with ``labels`` (m,); ignored: ``bboxes`` (k, 4)."""
        priors, boxes = pred_instances.priors, gt_instances.bboxes
        device, home = self._device(boxes), priors.device
        priors, boxes = priors.to(device), boxes.to(device)
        if self.perm_repeat_gt_cfg is not None and len(priors):
            boxes = moved_apart(boxes, self.iou_calculator, **self.perm_repeat_gt_cfg)
        ignored = self._ignored(priors, gt_instances_ignore)
        return self._assign(boxes, priors, gt_instances.labels.to(device), ignored).to(home)

    def _device(self, boxes: Tensor) -> torch.device:
        return torch.device("cpu") if 0 < self.gpu_assign_thr < len(boxes) else boxes.device

    def _ignored(self, priors: Tensor, ignored: Any) -> Tensor | None:
        """Bool (n,): priors in ignored boxes."""
        if self.ignore_iof_thr <= 0 or ignored is None or not len(ignored.bboxes) or not len(priors):
            return None
        regions = ignored.bboxes.to(priors.device)
        if self.ignore_wrt_candidates:
            shares = self.iou_calculator(priors, regions, mode="iof").amax(dim=1)
        else:
            shares = self.iou_calculator(regions, priors, mode="iof").amax(dim=0)
        return shares > self.ignore_iof_thr

    def assign_wrt_overlaps(self, overlaps: Tensor, gt_labels: Tensor) -> AssignResult:
        """Assign by overlaps (m, n) of boxes with priors; -1: ignored."""
        table = Table(
            overlaps.shape[0],
            overlaps.shape[1],
            overlaps.device,
            lambda part: overlaps[:, part].clone(),
            lambda row, column: overlaps[row, column],
        )
        return self._by(table, gt_labels)

    def _assign(self, boxes: Tensor, priors: Tensor, labels: Tensor, ignored: Tensor | None) -> AssignResult:
        calculate = self.iou_calculator
        table = Table(
            len(boxes),
            len(priors),
            boxes.device,
            lambda part: calculate(boxes, priors[part]),
            lambda row, column: calculate(boxes[row], priors[column], is_aligned=True),
        )
        return self._by(table, labels, ignored)

    def _by(self, table: Table, labels: Tensor, ignored: Tensor | None = None) -> AssignResult:
        gt_inds = torch.full((table.priors,), -1 if table.boxes else 0, device=table.device)
        if not table.boxes or not table.priors:
            return assigned(gt_inds, labels, torch.zeros(table.priors, device=table.device))
        found = greatest(table, ignored)
        best = found.best if ignored is None else found.best.masked_fill(ignored, -1)
        least, most = self._background
        gt_inds[(best >= least) & (best < most)] = 0
        positive = (best >= self.pos_iou_thr).nonzero().squeeze(1)
        gt_inds[positive] = found.boxes_of(positive) + 1
        if self.match_low_quality:
            row, column = found.matches(found.of_box >= self.min_pos_iou, self.gt_max_assign_all)
            matched = last_pairs(row, column, table.priors)
            gt_inds = torch.where(matched > 0, matched, gt_inds)
        return assigned(gt_inds, labels, best)


@register(scope="mmdet")
class ApproxMaxIoUAssigner(MaxIoUAssigner):
    """:class:`MaxIoUAssigner` where the overlap of a prior is the greatest of several shapes (arXiv 1901.03278).

    Args: those of :class:`MaxIoUAssigner` but ``perm_repeat_gt_cfg``.
    """

    def __init__(
        self,
        pos_iou_thr: float,
        neg_iou_thr: Threshold,
        min_pos_iou: float = 0.0,
        gt_max_assign_all: bool = True,
        ignore_iof_thr: float = -1,
        ignore_wrt_candidates: bool = True,
        match_low_quality: bool = True,
        gpu_assign_thr: float = -1,
        iou_calculator: BboxOverlaps2D | None = None,
    ) -> None:
        super().__init__(
            pos_iou_thr,
            neg_iou_thr,
            min_pos_iou,
            gt_max_assign_all,
            ignore_iof_thr,
            ignore_wrt_candidates,
            match_low_quality,
            gpu_assign_thr,
            iou_calculator,
        )

    @torch.no_grad()
    def assign(
        self, pred_instances: Any, gt_instances: Any, gt_instances_ignore: Any = None, **kwargs: Any
    ) -> AssignResult:
        """Assign ``priors`` (n, 4), each with ``approxs`` (n, a, 4), to ``bboxes`` (m, 4) with ``labels`` (m,)."""
        priors, boxes, approxs = pred_instances.priors, gt_instances.bboxes, pred_instances.approxs
        device, home = self._device(boxes), priors.device
        labels = gt_instances.labels.to(device)
        boxes, approxs = boxes.to(device), approxs.to(device)
        calculate, count = self.iou_calculator, approxs.shape[1]

        def columns(part: slice | Tensor) -> Tensor:
            overlaps = calculate(boxes, approxs[part].transpose(0, 1).reshape(-1, 4))
            return overlaps.view(len(boxes), count, -1).amax(dim=1)

        def pairs(row: Tensor, column: Tensor) -> Tensor:
            shapes = approxs[column].reshape(-1, 4)
            overlaps = calculate(boxes[row].repeat_interleave(count, dim=0), shapes, is_aligned=True)
            return overlaps.view(-1, count).amax(dim=1)

        table = Table(len(boxes), len(priors), device, columns, pairs)
        return self._by(table, labels, self._ignored(priors.to(device), gt_instances_ignore)).to(home)
