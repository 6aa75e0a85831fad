"""Which bucket a side of a box falls into, and where in it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from hatdet.models.mmdet import exact
from hatdet.models.mmdet.coders.base import BaseBBoxCoder, Shape, clip
from hatdet.registry import register


@register(scope="mmdet")
class BucketingBBoxCoder(BaseBBoxCoder):
    """Side-aware boundary localization (SABL, arXiv 1912.04260).

    The prior, grown, is cut into ``num_buckets`` strips in x and in y. Each side of a box is in one of the outer
    half of the strips of its direction (S = ceil(num_buckets / 2), the outermost first), and has an offset, in strips,
    from the strip's centre. Sides come in the order left, right, top, bottom.

    Args:
        num_buckets: strips of a direction.
        scale_factor: growth of the prior.
        offset_topk: offsets are learned of so many nearest strips,
        offset_upperbound: of all but the nearest only where the offset is below this.
        cls_ignore_neighbor: strips less than one strip away, but not the right one, have no weight as labels.
        clip_border: decoded boxes are cut to the picture.
        use_box_type: must be False.
    """

    def __init__(
        self,
        num_buckets: int,
        scale_factor: float,
        offset_topk: int = 2,
        offset_upperbound: float = 1.0,
        cls_ignore_neighbor: bool = True,
        clip_border: bool = True,
        use_box_type: bool = False,
    ) -> None:
        super().__init__(use_box_type)
        self.num_buckets = num_buckets
        self.scale_factor = scale_factor
        self.offset_topk = offset_topk
        self.offset_upperbound = offset_upperbound
        self.cls_ignore_neighbor = cls_ignore_neighbor
        self.clip_border = clip_border
        self.side_num = -(-num_buckets // 2)

    def encode(self, bboxes: Tensor, gt_bboxes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of priors (n, 4) and boxes (n, 4): offsets, their weights, labels (one-hot), their weights, (n, 4 S) each."""
        starts, steps = self._strips(bboxes.float())
        places = torch.arange(self.side_num, device=bboxes.device) + 0.5
        # Right and bottom count from their edge inwards: the step is negative, the unit of offsets is not.
        centres = starts[..., None] + places * steps[..., None]
        sides = gt_bboxes.float()[:, [0, 2, 1, 3]]
        offsets = (centres - sides[..., None]) / steps.abs()[..., None]
        distance = offsets.abs()
        ordered = distance.sort(dim=-1, stable=True)  # of equals the first
        near, index = (part[..., : self.offset_topk] for part in ordered)
        learned = near < self.offset_upperbound
        learned[..., 0] = True
        weights = torch.zeros_like(offsets).scatter_(-1, index, learned.to(offsets.dtype))
        labels = F.one_hot(index[..., 0], self.side_num).to(offsets.dtype)
        counted = torch.ones_like(labels)
        if self.cls_ignore_neighbor:
            counted[(distance < 1) & (labels == 0)] = 0
        return offsets.flatten(1), weights.flatten(1), labels.flatten(1), counted.flatten(1)

    def decode(
        self, bboxes: Tensor, pred_bboxes: tuple[Tensor, Tensor], max_shape: Shape | None = None
    ) -> tuple[Tensor, Tensor]:
        """Boxes (n, 4) of priors (n, 4) and (logits, offsets) (n, 4 S) each, and how sure the strips are: (n,)."""
        logits, offsets = (values.reshape(-1, 4, self.side_num) for values in pred_bboxes)
        shares = exact.softmax(logits)
        index = shares.argmax(dim=-1, keepdim=True)  # of equal ones the first
        rest = shares.scatter(-1, index, -1.0)
        other = rest.argmax(dim=-1, keepdim=True)
        starts, steps = self._strips(bboxes)
        chosen = offsets.gather(-1, index).squeeze(-1)
        places = starts + (0.5 + index.squeeze(-1)) * steps - chosen * steps.abs()
        columns = list(places[:, [0, 2, 1, 3]].unbind(1))
        if self.clip_border:
            columns = clip(columns, max_shape, less=1)
        neighbours = (index - other).abs() == 1
        sure = (shares.gather(-1, index) + rest.gather(-1, other) * neighbours).squeeze(-1)
        confidence = (sure[:, 0] + sure[:, 1] + sure[:, 2] + sure[:, 3]) * 0.25
        return torch.stack(columns, dim=1), confidence

    def _strips(self, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Where the strips of each side begin, and the step to the next one inwards: (n, 4) each."""
        x1, y1, x2, y2 = boxes.unbind(1)
        x, y, w, h = (x1 + x2) * 0.5, (y1 + y2) * 0.5, (x2 - x1) * self.scale_factor, (y2 - y1) * self.scale_factor
        left, right, top, bottom = x - 0.5 * w, x + 0.5 * w, y - 0.5 * h, y + 0.5 * h
        step_x, step_y = (exact.divide(length, self.num_buckets) for length in (right - left, bottom - top))
        return torch.stack((left, right, top, bottom), dim=1), torch.stack((step_x, -step_x, step_y, -step_y), dim=1)
