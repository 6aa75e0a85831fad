"""What an anchor-based head learns of a matched box: its class and its place relative to the anchor."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from hatdet.registry import register

MAX_LOG_RATIO = math.log(1000.0 / 16.0)
"""Predicted sides are at most so many times (62.5) the anchor's."""


@register
class XYWHBBoxEncoder:
    """Centre and size relative to the anchor (arXiv 1311.2524, appendix C).

    ``dx = (x - xa) / wa, dy = (y - ya) / ha, dw = log(w / wa), dh = log(h / ha)`` with centres x, y, then
    ``(d - reg_mean) / reg_std``.

    Args:
        reg_mean: subtracted from (dx, dy, dw, dh).
        reg_std: divided by.
        max_log_ratio: predicted dw and dh are cut here, so that the exponential cannot overflow.

    Raises:
        ValueError: not four numbers each, or a standard deviation that is not positive.
    """

    form: ClassVar[str] = "deltas"
    num_values: ClassVar[int] = 4

    def __init__(
        self,
        *,
        reg_mean: Sequence[float] = (0.0, 0.0, 0.0, 0.0),
        reg_std: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
        max_log_ratio: float = MAX_LOG_RATIO,
    ) -> None:
        if len(reg_mean) != 4 or len(reg_std) != 4 or min(reg_std) <= 0:
            raise ValueError(
                f"reg_mean and reg_std are four numbers each, reg_std positive; got {tuple(reg_mean)}, {tuple(reg_std)}"
            )
        self.reg_mean = tuple(float(v) for v in reg_mean)
        self.reg_std = tuple(float(v) for v in reg_std)
        self.max_log_ratio = float(max_log_ratio)

    def encode(self, anchors: Tensor, boxes: Tensor) -> Tensor:
        """Deltas (..., 4) of ``boxes`` (..., 4), xyxy with positive sides, from ``anchors`` (..., 4), xyxy."""
        size, box_size = anchors[..., 2:] - anchors[..., :2], boxes[..., 2:] - boxes[..., :2]
        shift = (boxes[..., :2] + boxes[..., 2:] - anchors[..., :2] - anchors[..., 2:]) / (2 * size)
        deltas = torch.cat((shift, (box_size / size).log()), dim=-1)
        if self._plain:
            return deltas
        return (deltas - deltas.new_tensor(self.reg_mean)) / deltas.new_tensor(self.reg_std)

    def decode(self, anchors: Tensor, deltas: Tensor, exp: Callable[[Tensor], Tensor] = torch.exp) -> Tensor:
        """Boxes (..., 4), xyxy, of predicted deltas (..., 4) at ``anchors`` (..., 4); nothing is clipped."""
        if not self._plain:
            deltas = deltas * deltas.new_tensor(self.reg_std) + deltas.new_tensor(self.reg_mean)
        size = anchors[..., 2:] - anchors[..., :2]
        centre = (anchors[..., :2] + anchors[..., 2:]) * 0.5 + deltas[..., :2] * size
        half = exp(deltas[..., 2:].clamp(max=self.max_log_ratio)) * size * 0.5
        return torch.cat((centre - half, centre + half), dim=-1)

    def metadata(self) -> dict[str, Any]:
        return {
            "reg_mean": list(self.reg_mean),
            "reg_std": list(self.reg_std),
            "max_log_ratio": self.max_log_ratio,
        }

    @property
    def _plain(self) -> bool:
        return not any(self.reg_mean) and set(self.reg_std) == {1.0}


@register
class OneHotClassEncoder:
    """Labels as one column for each class: 1 the class, 0 not the class, -1 not learned.

    Labels count background as 0 and the classes from 1. A negative label ``-c`` is an anchor that resembles class c
    too little to learn it and too much to be background.

    Args:
        num_classes: classes with background.
        class_agnostic_neg: a negative label is not learned in any column; False: only in that of its class, and is
            background for the others.
        exclude_background: there is no column for background: it is 0 in all.

    Raises:
        ValueError: fewer than two classes (background is one).
    """

    def __init__(self, *, num_classes: int, class_agnostic_neg: bool = True, exclude_background: bool = True) -> None:
        if num_classes < 2:
            raise ValueError(
                f"num_classes={num_classes} counts background too, so it is at least 2: write num_classes + 1"
            )
        self.num_classes = num_classes
        self.class_agnostic_neg = class_agnostic_neg
        self.exclude_background = exclude_background

    @property
    def num_columns(self) -> int:
        """Columns of the result."""
        return self.num_classes - int(self.exclude_background)

    def __call__(self, labels: Tensor) -> Tensor:
        """int8 (..., num_columns) of int64 labels (...)."""
        encoded = torch.zeros((*labels.shape, self.num_classes), dtype=torch.int8, device=labels.device)
        value = torch.where(labels < 0, -1, 1).to(torch.int8)
        encoded.scatter_(-1, labels.abs()[..., None], value[..., None])
        if self.class_agnostic_neg:
            encoded.masked_fill_((labels < 0)[..., None], -1)
        return encoded[..., 1:] if self.exclude_background else encoded
