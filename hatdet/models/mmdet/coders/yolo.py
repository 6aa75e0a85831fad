"""Place in the cell and growth of the prior."""

from __future__ import annotations

import torch
from torch import Tensor

from hatdet.models.mmdet import exact
from hatdet.models.mmdet.coders.base import BaseBBoxCoder
from hatdet.registry import register


@register(scope="mmdet")
class YOLOBBoxCoder(BaseBBoxCoder):
    """Place of the centre in the prior's cell, from 0 to 1, and logarithm of the growth (YOLOv3, arXiv 1804.02767).

    Args:
        eps: places stay this far from 0 and 1, and a side is at least this share of the prior's.
        use_box_type: must be False.
    """

    def __init__(self, eps: float = 1e-6, use_box_type: bool = False) -> None:
        super().__init__(use_box_type)
        self.eps = eps

    def encode(self, bboxes: Tensor, gt_bboxes: Tensor, stride: Tensor | float = 1) -> Tensor:
        """Targets (..., 4) of priors (..., 4) and boxes (..., 4).

        Args:
            stride: side of a cell in pixels: a number, or of each prior (...,).
        """
        x1, y1, x2, y2 = bboxes.unbind(-1)
        gx1, gy1, gx2, gy2 = gt_bboxes.unbind(-1)
        shifts = ((gx1 + gx2) * 0.5 - (x1 + x2) * 0.5, (gy1 + gy2) * 0.5 - (y1 + y2) * 0.5)
        growths = ((gx2 - gx1) / (x2 - x1), (gy2 - gy1) / (y2 - y1))
        places = [(shift / stride + 0.5).clamp(self.eps, 1 - self.eps) for shift in shifts]
        return torch.stack([*places, *(torch.log(growth.clamp(min=self.eps)) for growth in growths)], dim=-1)

    def decode(self, bboxes: Tensor, pred_bboxes: Tensor, stride: Tensor | float = 1) -> Tensor:
        """Boxes (..., 4) of priors (..., 4) and predictions (..., 4), places after their sigmoid.

        Args:
            stride: a number, or a tensor that broadcasts with (..., 2): (n, 1) of n priors.
        """
        centres = (bboxes[..., :2] + bboxes[..., 2:]) * 0.5 + (pred_bboxes[..., :2] - 0.5) * stride
        halves = (bboxes[..., 2:] - bboxes[..., :2]) * 0.5 * exact.exp(pred_bboxes[..., 2:])
        return torch.cat((centres - halves, centres + halves), dim=-1)
