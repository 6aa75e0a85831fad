"""Assignment of several boxes to one proposal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hatdet.models.mmdet.assigners.max_iou import MaxIoUAssigner
from hatdet.models.mmdet.assigners.result import AssignResult
from hatdet.models.mmdet.overlaps import BboxOverlaps2D
from hatdet.registry import register
from hatdet.utils.annotations import Spec


@register(scope="mmdet")
class MultiInstanceAssigner(MaxIoUAssigner):
    """Each proposal has ``num_instance`` boxes, the ones it overlaps most (CrowdDet, arXiv 2003.09163).

    All boxes are put behind the proposals first, ignored ones too. ``gt_inds`` (from 0), ``max_overlaps`` and
    ``labels`` of the result are (n + m, num_instance): label 1 from ``pos_iou_thr`` on, 0 below ``neg_iou_thr``,
    -1 for an ignored box.

    Args:
        num_instance: see above.
        others: those of :class:`MaxIoUAssigner`.
    """

    def __init__(
        self,
        pos_iou_thr: float,
        neg_iou_thr: float,
        min_pos_iou: float = 0.0,
        gt_max_assign_all: bool = True,
        ignore_iof_thr: float = -1,
        ignore_wrt_candidates: bool = True,
        match_low_quality: bool = True,
        gpu_assign_thr: float = -1,
        iou_calculator: BboxOverlaps2D | None = None,
        perm_repeat_gt_cfg: Spec | None = None,
        num_instance: int = 2,
    ) -> None:
        if isinstance(neg_iou_thr, Sequence):
            raise ValueError(f"neg_iou_thr is a number here, got {neg_iou_thr}")
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
            perm_repeat_gt_cfg,
        )
        self.num_instance = num_instance

    @torch.no_grad()
    def assign(
        self, pred_instances: Any, gt_instances: Any, gt_instances_ignore: Any = None, **kwargs: Any
    ) -> AssignResult:
        """Assign ``priors`` (n, 4) to ``bboxes`` (m, 4) with ``labels`` (m,); ignored: ``bboxes`` (k, 4)."""
        device, home = self._device(gt_instances.bboxes), pred_instances.priors.device
        boxes, labels = gt_instances.bboxes.to(device), gt_instances.labels.to(device) + 1
        if gt_instances_ignore is not None:
            more = gt_instances_ignore.bboxes.to(device)
            given = getattr(gt_instances_ignore, "labels", None)
            labels = torch.cat((labels, labels.new_full((len(more),), -1) if given is None else given.to(device)))
            boxes = torch.cat((boxes, more))
        priors = torch.cat((pred_instances.priors.to(device), boxes))
        ignored = labels == -1
        share, index = self._greatest(self.iou_calculator(priors, boxes) * ~ignored)
        lost, region = self._greatest(self.iou_calculator(priors, boxes, mode="iof") * ignored)
        swap = (share < self.pos_iou_thr) & (lost > share)
        overlaps, gt_inds = torch.where(swap, lost, share), torch.where(swap, region, index)
        found = labels[gt_inds] if len(boxes) else torch.zeros_like(gt_inds)
        found = torch.where((overlaps >= self.pos_iou_thr) & (found != -1), 1, found)
        found = torch.where((overlaps < self._background[1]) & (overlaps >= 0), 0, found)
        return AssignResult(len(boxes), gt_inds, overlaps, found).to(home)

    def _greatest(self, overlaps: Tensor) -> tuple[Tensor, Tensor]:
        """The greatest ``num_instance`` of each row and their columns; 0 of column 0 where there are fewer."""
        values, columns = overlaps.sort(descending=True, dim=1)
        missing = (0, max(self.num_instance - overlaps.shape[1], 0))
        return F.pad(values, missing)[:, : self.num_instance], F.pad(columns, missing)[:, : self.num_instance]
