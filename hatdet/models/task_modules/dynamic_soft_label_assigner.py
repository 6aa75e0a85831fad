"""The label assignment of RTMDet, for a whole batch at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from hatdet.models.task_modules.assign_result import AssignResult
from hatdet.ops.boxes import aligned_iou
from hatdet.registry import register

_IOU_EPS = 1e-7
_UNREACHABLE = float("inf")
_BLOCK = 1 << 17  # pairs worked on at once: temporaries of half a megabyte stay in a CPU's cache


@dataclass(frozen=True)
class _Rows:
    """The ground truths of a batch without their padding, G rows; those of one image stand together."""

    image: Tensor  # (G,) index of the image
    slot: Tensor  # (G,) index inside the image
    boxes: Tensor  # (G, 4)
    labels: Tensor  # (G,)

    def blocks(self, columns: int) -> Iterator[tuple[slice, _Rows]]:
        """Runs of rows, in order; all rows at once on a GPU."""
        size = max(_BLOCK // columns, 1) if self.boxes.device.type == "cpu" else len(self.image)
        for start in range(0, len(self.image), size):
            part = slice(start, start + size)
            yield part, _Rows(self.image[part], self.slot[part], self.boxes[part], self.labels[part])


@dataclass(frozen=True)
class _Columns:
    """The candidates of each image, K of them: an image with fewer is filled up with other priors."""

    prior: Tensor  # (B, K) index of the prior
    valid: Tensor  # (B, K) whether it is a candidate
    points: Tensor  # (3, B, K): x, y, stride
    boxes: Tensor  # (B, 4, K) predicted
    logits: Tensor  # (B, C, K)
    background: Tensor  # (B, K): class cost with label 0 for every class


@register
class DynamicSoftLabelAssigner:
    """Dynamic soft label assignment (RTMDet, arXiv 2212.07784, section 3.3).

    Candidates are the priors strictly inside at least one box of their image. The cost of a prior for a box
    is

    - class: binary cross entropy of the logits with the soft label (the IoU for the box's class, 0 for the
      others), each term times ``|label - sigmoid(logit)|^2``, summed over the classes;
    - overlap: ``-iou_weight * log(IoU)``;
    - place: ``10 ** (distance of the prior from the box's centre, in strides - soft_center_radius)``.

    Each box takes its k cheapest candidates, k being the sum of its ``topk`` best IoUs, truncated, at least
    1. A prior that several boxes took goes to the box of its image with the least cost. Equal costs go to
    the lower index.

    Args:
        topk: IoUs summed for k.
        iou_weight: see above.
        soft_center_radius: see above.
    """

    def __init__(self, *, topk: int = 13, iou_weight: float = 3.0, soft_center_radius: float = 3.0) -> None:
        if topk < 1:
            raise ValueError(f"topk must be at least 1, got {topk}")
        self.topk = topk
        self.iou_weight = iou_weight
        self.soft_center_radius = soft_center_radius

    @torch.no_grad()
    def __call__(
        self, pred_boxes: Tensor, cls_logits: Tensor, priors: Tensor, gt_boxes: Tensor, gt_labels: Tensor
    ) -> AssignResult:
        """Assign the priors of each image of a batch.

        Args:
            pred_boxes: float32 (B, P, 4) decoded, xyxy in pixels.
            cls_logits: float32 (B, P, C).
            priors: float32 (P, 4), (x, y, stride, stride) in pixels.
            gt_boxes: float32 (B, M, 4) xyxy in pixels, padded.
            gt_labels: int64 (B, M), -1 where padded.
        """
        batch, count = cls_logits.shape[:2]
        image, slot = (gt_labels >= 0).nonzero(as_tuple=True)
        rows = _Rows(image, slot, gt_boxes[image, slot], gt_labels[image, slot])
        if image.numel() == 0:
            return _background(cls_logits)
        columns = _columns(_candidates(priors, rows, batch), priors, pred_boxes, cls_logits)
        shape = (image.numel(), columns.prior.shape[1])
        ious, cost = pred_boxes.new_empty(shape), pred_boxes.new_empty(shape)
        pairs = []
        for part, some in rows.blocks(shape[1]):
            valid = columns.valid[some.image]
            ious[part] = _ious(some, columns).masked_fill_(~valid, 0.0)
            cost[part] = self._cost(ious[part], some, columns).masked_fill_(~valid, _UNREACHABLE)
            row, column = self._cheapest(cost[part], ious[part], valid)
            pairs.append((row + part.start, column))
        row, column = (torch.cat(indices) for indices in zip(*pairs, strict=True))
        row = _resolve_conflicts(row, column, cost, rows, gt_labels.shape[1])
        prior = columns.prior[image[row], column]
        return _scatter(rows, row, prior, ious[row, column], (batch, count))

    def _cost(self, ious: Tensor, rows: _Rows, columns: _Columns) -> Tensor:
        """(G, K): cost of each listed prior of the row's image."""
        x, y, stride = columns.points[:, rows.image]
        centres = (rows.boxes[:, :2] + rows.boxes[:, 2:]) / 2
        distance = (x - centres[:, :1]).square_().add_((y - centres[:, 1:]).square_()).sqrt_().div_(stride)
        cost = torch.pow(10.0, distance.sub_(self.soft_center_radius))
        cost.sub_((ious + _IOU_EPS).log_().mul_(self.iou_weight))
        return cost.add_(_class_cost(ious, rows, columns))

    def _cheapest(self, cost: Tensor, ious: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """(row, column) of every pair that a box takes, row by row, columns rising."""
        most = min(self.topk, cost.shape[1])
        wanted = ious.topk(most, dim=1).values.sum(dim=1).to(torch.int64).clamp_(min=1)
        # topk leaves open which of equal costs it returns: only its values are used, never its indices.
        cheapest = cost.topk(most, dim=1, largest=False).values
        last = cheapest.gather(1, wanted[:, None] - 1)
        row, column = ((cost <= last) & valid).nonzero(as_tuple=True)
        tied = cost[row, column] == last[row, 0]
        free = wanted - (cheapest < last).sum(dim=1)  # places left for the costs equal to the last one
        rank = tied.cumsum(0)
        ties = torch.zeros_like(wanted).index_add_(0, row, tied.to(torch.int64))
        rank = rank - (ties.cumsum(0) - ties)[row]  # 1 for the first tied pair of the row
        taken = ~tied | (rank <= free[row])
        return row[taken], column[taken]


def _candidates(priors: Tensor, rows: _Rows, batch: int) -> Tensor:
    """Bool (B, P): strictly inside a box of the image."""
    x, y = priors[:, 0].contiguous(), priors[:, 1].contiguous()
    hits = torch.zeros(batch, len(priors), dtype=torch.int32, device=priors.device)
    for _, some in rows.blocks(len(priors)):
        x1, y1, x2, y2 = some.boxes[:, :, None].unbind(1)
        inside = (x > x1) & (x < x2) & (y > y1) & (y < y2)
        hits.index_add_(0, some.image, inside.to(torch.int32))
    return hits > 0


def _columns(candidate: Tensor, priors: Tensor, pred_boxes: Tensor, cls_logits: Tensor) -> _Columns:
    most = max(int(candidate.sum(dim=1).max()), 1)
    prior = torch.sort(candidate.to(torch.uint8), dim=1, descending=True, stable=True).indices[:, :most]

    def listed(values: Tensor) -> Tensor:  # (B, P, n) -> (B, n, K), so that a row of pairs is contiguous
        index = prior[:, :, None].expand(-1, -1, values.shape[2])
        return values.gather(1, index).transpose(1, 2).contiguous()

    logits = listed(cls_logits)
    return _Columns(
        prior=prior,
        valid=candidate.gather(1, prior),
        points=priors[:, :3].T.contiguous()[:, prior],
        boxes=listed(pred_boxes),
        logits=logits,
        background=(F.softplus(logits).mul_(logits.sigmoid().square_())).sum(dim=1),
    )


def _ious(rows: _Rows, columns: _Columns) -> Tensor:
    """(G, K): IoU of each row's box with the boxes predicted at the listed priors of its image."""
    return aligned_iou(rows.boxes[:, None], columns.boxes[rows.image].movedim(1, 2))


def _class_cost(ious: Tensor, rows: _Rows, columns: _Columns) -> Tensor:
    """(G, K): weighted cross entropy over all classes with the IoU as the label of the row's class.

    The other classes have label 0: their sum is the same for every row, so no (G, K, C) tensor is needed.
    """
    own = columns.logits[rows.image, rows.labels]
    probability, entropy = own.sigmoid(), F.softplus(own)
    others = columns.background[rows.image].sub_(entropy * probability.square())
    modulation = (ious - probability).square_()
    return others.add_(entropy.sub_(own.mul_(ious)).mul_(modulation))


def _resolve_conflicts(row: Tensor, column: Tensor, cost: Tensor, rows: _Rows, slots: int) -> Tensor:
    """For each pair the row that gets the prior: the cheapest of the image where more than one took it."""
    key = rows.image[row] * cost.shape[1] + column
    _, inverse, times = torch.unique(key, return_inverse=True, return_counts=True)
    conflict = (times[inverse] > 1).nonzero().squeeze(1)
    if conflict.numel() == 0:
        return row
    # Rows of one image are consecutive; those of other images cost infinity.
    image = rows.image[row[conflict]]
    per_image = torch.bincount(rows.image)
    first = per_image.cumsum(0) - per_image
    slot = torch.arange(slots, device=cost.device)
    exists = slot < per_image[image][:, None]
    others = (first[image][:, None] + slot).clamp_(max=len(cost) - 1)
    costs = cost[others, column[conflict][:, None]].masked_fill_(~exists, _UNREACHABLE)
    winner = first[image] + costs.argmin(dim=1)
    return row.index_copy(0, conflict, winner)


def _scatter(rows: _Rows, row: Tensor, prior: Tensor, ious: Tensor, size: tuple[int, int]) -> AssignResult:
    where = (rows.image[row], prior)
    gt_inds = torch.zeros(size, dtype=torch.int64, device=prior.device)
    labels = torch.full_like(gt_inds, -1)
    metrics = torch.zeros(size, dtype=ious.dtype, device=prior.device)
    # Pairs that were in conflict come twice, with equal values.
    gt_inds[where] = rows.slot[row] + 1
    labels[where] = rows.labels[row]
    metrics[where] = ious
    return AssignResult(gt_inds, labels, metrics)


def _background(cls_logits: Tensor) -> AssignResult:
    gt_inds = torch.zeros(cls_logits.shape[:2], dtype=torch.int64, device=cls_logits.device)
    return AssignResult(gt_inds, torch.full_like(gt_inds, -1), torch.zeros_like(gt_inds, dtype=torch.float32))
