"""Shift of the centre in sizes of the prior, and logarithm of the growth (R-CNN, arXiv 1311.2524, appendix C)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from hatdet.models.mmdet import exact
from hatdet.models.mmdet.coders.base import BaseBBoxCoder, Shape, clip
from hatdet.registry import register

_CLIP = 16 / 1000


class DeltaCoder(BaseBBoxCoder):
    """What the forms share. The three numbers say where each counts pixels as MMDetection 1 did."""

    encoded_more = 0
    """Pixels that a box is larger than right - left, when it is encoded."""
    decoded_more = 0
    """The same of a prior, when it is decoded."""
    centre_less = 0
    """Pixels that the sum of left and right is too large for the centre."""
    clip_less = 0
    """Pixels that the last place is before the edge of the picture."""

    def __init__(
        self,
        target_means: Sequence[float],
        target_stds: Sequence[float],
        clip_border: bool,
        ctr_clamp: float | None,
        use_box_type: bool,
    ) -> None:
        super().__init__(use_box_type)
        if len(target_means) != 4 or len(target_stds) != 4:
            raise ValueError(f"target_means and target_stds have 4 numbers each, got {target_means} and {target_stds}")
        self.means, self.stds = target_means, target_stds
        self.clip_border = clip_border
        self.shift_limit = ctr_clamp

    def encode(self, bboxes: Tensor, gt_bboxes: Tensor) -> Tensor:
        """Targets (..., 4) of priors (..., 4) and boxes (..., 4)."""
        x, y, w, h = _measured(bboxes.float(), self.encoded_more)
        gx, gy, gw, gh = _measured(gt_bboxes.float(), self.encoded_more)
        deltas = ((gx - x) / w, (gy - y) / h, torch.log(gw / w), torch.log(gh / h))
        normal = zip(deltas, self.means, self.stds, strict=True)
        return torch.stack([(delta - mean) / std for delta, mean, std in normal], dim=-1)

    def decode(
        self, bboxes: Tensor, pred_bboxes: Tensor, max_shape: Shape | None = None, wh_ratio_clip: float = _CLIP
    ) -> Tensor:
        """Boxes (..., 4 k) of priors (..., 4) and predictions (..., 4 k), k of them a prior (one a class).

        Args:
            max_shape: boxes are cut there (where ``clip_border``).
            wh_ratio_clip: a side is at most 1 / this of the prior's.
        """
        shape = pred_bboxes.shape
        deltas = pred_bboxes.reshape(*shape[:-1], shape[-1] // 4, 4).unbind(-1)
        dx, dy, dw, dh = (delta * std + mean for delta, mean, std in zip(deltas, self.means, self.stds, strict=True))
        x, y, w, h = _measured(bboxes[..., None, :], self.decoded_more, self.centre_less)
        least, most = self.growth_limits(wh_ratio_clip)
        dx, dy = w * dx, h * dy
        limit = self.shift_limit
        if limit is not None:
            dx, dy = dx.clamp(-limit, limit), dy.clamp(-limit, limit)
        x, y = x + dx, y + dy
        half_w, half_h = (
            0.5 * (side * exact.exp(growth.clamp(least, most)) - self.centre_less)
            for side, growth in ((w, dw), (h, dh))
        )
        columns = [x - half_w, y - half_h, x + half_w, y + half_h]
        if self.clip_border:
            columns = clip(columns, max_shape, self.clip_less)
        return torch.stack(columns, dim=-1).reshape(shape)

    def growth_limits(self, wh_ratio_clip: float = _CLIP) -> tuple[float, float]:
        """Between which numbers the logarithm of a growth is, see :meth:`decode`."""
        most = abs(math.log(wh_ratio_clip))
        return (-most if self.shift_limit is None else -math.inf), most


def _measured(boxes: Tensor, more: int = 0, centre_less: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Centre x, centre y, width, height (...) of boxes (..., 4)."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    return (x1 + x2 - centre_less) * 0.5, (y1 + y2 - centre_less) * 0.5, x2 - x1 + more, y2 - y1 + more


@register(scope="mmdet")
class DeltaXYWHBBoxCoder(DeltaCoder):
    """(dx, dy, dw, dh): ``dx = (x - prior x) / prior width``, ``dw = log(width / prior width)``, then normalized.

    Args:
        target_means, target_stds: ``(delta - mean) / std`` is what the network learns.
        clip_border: decoded boxes are cut to the picture.
        add_ctr_clamp: a centre moves at most ``ctr_clamp`` pixels, and a side may become as small as it wants (YOLOF).
        ctr_clamp: see above.
        use_box_type: must be False.
    """

    def __init__(
        self,
        target_means: Sequence[float] = (0.0, 0.0, 0.0, 0.0),
        target_stds: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
        clip_border: bool = True,
        add_ctr_clamp: bool = False,
        ctr_clamp: float = 32,
        use_box_type: bool = False,
    ) -> None:
        super().__init__(target_means, target_stds, clip_border, ctr_clamp if add_ctr_clamp else None, use_box_type)
        self.add_ctr_clamp, self.ctr_clamp = add_ctr_clamp, ctr_clamp


@register(scope="mmdet")
class DeltaXYWHBBoxCoderForGLIP(DeltaXYWHBBoxCoder):
    """Decoded boxes end with their last pixel (GLIP, arXiv 2112.03857)."""

    centre_less = clip_less = 1


@register(scope="mmdet")
class LegacyDeltaXYWHBBoxCoder(DeltaCoder):
    """The coder of MMDetection 1: a box is as wide as right - left + 1. Always cut to the picture.

    Args:
        target_means, target_stds: see :class:`DeltaXYWHBBoxCoder`.
        use_box_type: must be False.
    """

    encoded_more = decoded_more = clip_less = 1

    def __init__(
        self,
        target_means: Sequence[float] = (0.0, 0.0, 0.0, 0.0),
        target_stds: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
        use_box_type: bool = False,
    ) -> None:
        super().__init__(target_means, target_stds, True, None, use_box_type)
