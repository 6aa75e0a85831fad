"""How the integer outputs of a head say boxes and scores: as plain values, tables by code, for decoders on devices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from hatdet.models.mmdet import exact
from hatdet.models.mmdet.coders.delta import (
    DeltaCoder,
    DeltaXYWHBBoxCoder,
    DeltaXYWHBBoxCoderForGLIP,
    LegacyDeltaXYWHBBoxCoder,
)
from hatdet.models.mmdet.coders.distance import DistancePointBBoxCoder, TBLRBBoxCoder
from hatdet.models.mmdet.coders.yolo import YOLOBBoxCoder
from hatdet.utils.errors import UserError

Form = Literal["sides", "deltas", "cells", "centre", "bins", "peaks", "buckets"]
"""How the four values of a box, looked up by code, make it, with a prior of centre (x, y) and size (w, h):

* ``sides``: x - v[0], y - v[1], x + v[2], y + v[3];
* ``deltas``: centre x + w v[0] and half a width of 0.5 (w v[2]), and so in y; some coders count pixels otherwise:
  the prior's x is half a ``centre_less`` before its middle, its w ``more`` wider, the half half a ``centre_less`` less;
* ``cells``: centre x + v[0], half a width of (0.5 w) v[2];
* ``centre``: centre v[0] + x, half a width of v[2] / 2;
* ``bins``: sides, each the mean of 0, 1, 2, ... under a softmax of as many values, times the stride;
* ``peaks``: centre cell + v[0] and half a width of v[2] / 2, all times the stride; v[0] and v[1] are ``shift``'s. A
  score that a neighbour's exceeds is 0; boxes do not suppress each other;
* ``buckets``: the prior, ``growth`` times as large, in ``num_buckets`` strips each way; each side is in the likeliest
  of its strips, and ``shift`` of the strip's width from its middle; how sure the strips are is the factor of the score.
"""


DELTAS = (DeltaXYWHBBoxCoder, DeltaXYWHBBoxCoderForGLIP, LegacyDeltaXYWHBBoxCoder)


@dataclass(frozen=True)
class Address:
    """Where the numbers of prior a lie: channels ``first + a * step``, ... of the maps of a kind."""

    kind: int
    first: int
    step: int


@dataclass(frozen=True, kw_only=True)
class Picking:
    """How detections are picked among boxes with scores.

    Attributes:
        reaches: a score passes that reaches the threshold; else one above it.
        multi_label: each class of a prior is a candidate; else the best one.
        whole: ``nms_pre`` is of all levels together.
        by_prior: ``nms_pre`` counts priors, by their best class; else pairs of a prior and a class.
        by_level: boxes of different levels do not suppress each other.
        clips: boxes are cut to the picture, ``clip_less`` pixels before its right and lower edge.
        vote: boxes that stay are means of the candidates around them.
        peaks: the ``topk`` best stay, without suppression.
        ignores: keys of ``test_cfg`` that the head does not read.
    """

    reaches: bool = False
    multi_label: bool = True
    whole: bool = False
    by_prior: bool = False
    by_level: bool = False
    clips: bool = True
    clip_less: int = 0
    vote: bool = False
    peaks: bool = False
    ignores: tuple[str, ...] = ()

    def read(self, cfg: Mapping[str, Any] | None) -> dict[str, Any]:
        """What of ``test_cfg`` counts."""
        return {key: value for key, value in (cfg or {}).items() if key not in self.ignores}


@dataclass(frozen=True)
class Coding(Picking):
    """What a decoder has to know of a head besides its numbers.

    Attributes:
        form: see :data:`Form`.
        cls, box, factor: where classes, box values and, if there is one, the factor of the scores are.
        softmax: scores are shares of the class logits, the last of which is the background; else sigmoids.
        early: the threshold sees the product of class score and factor; else the class score alone.
        order: where left, top, right, bottom (x, y, w, h) are among the box values.
        shift_limit, more, centre_less: of ``deltas``; the first: a centre moves at most so many pixels.
        factor_thr: a factor below it has no candidates.
        num_bins: of ``bins``.
        root: a score is the root of the product of class score and factor.
        shift: where the offsets of ``peaks`` or ``buckets`` are; or of ``sides`` in strides or ``deltas``, shifts
            (y, x) of each side, in positions: it is read there between the sides of four positions, if the sides read
            are a box.
        kernel: of ``peaks``: side of the square of neighbours.
        num_buckets, growth: of ``buckets``.
    """

    form: Form
    cls: Address
    box: Address
    factor: Address | None = None
    softmax: bool = False
    early: bool = False
    order: tuple[int, int, int, int] = (0, 1, 2, 3)
    shift_limit: float | None = None
    more: int = 0
    centre_less: int = 0
    factor_thr: float | None = None
    num_bins: int = 0
    root: bool = False
    shift: Address | None = None
    kernel: int = 3
    num_buckets: int = 0
    growth: float = 1.0


def of_coder(coder: Any) -> dict[str, Any]:
    """The arguments of :class:`Coding` that follow from a box coder.

    Raises:
        UserError: boxes of this coder have no decoder.
    """
    if type(coder) in DELTAS:  # a subclass may decode otherwise
        limit = None if coder.shift_limit is None else float(coder.shift_limit)
        known = {"form": "deltas", "clips": coder.clip_border, "clip_less": coder.clip_less, "shift_limit": limit}
        return {**known, "more": coder.decoded_more, "centre_less": coder.centre_less}
    if type(coder) is TBLRBBoxCoder:
        return {"form": "sides", "clips": coder.clip_border, "order": (2, 0, 3, 1)}
    if type(coder) is DistancePointBBoxCoder:
        return {"form": "sides", "clips": coder.clip_border}
    if type(coder) is YOLOBBoxCoder:
        return {"form": "cells", "clips": False}
    raise _refused(coder)


def of_form(coder: Any, form: Form) -> dict[str, Any]:
    """:func:`of_coder` of a head that has a decoder for one form alone."""
    found = of_coder(coder)
    if found["form"] != form:
        raise _refused(coder)
    return found


def _refused(coder: Any) -> UserError:
    return UserError(
        f"there is no decoder for boxes of {type(coder).__name__} in this head; take its usual bbox_coder, or export "
        "without --emit-decoder, and score the file with tools/test.py"
    )


def of_classes(head: Any, each: bool = False) -> dict[str, Any]:
    """The arguments of :class:`Coding` that say where classes are and what their scores are.

    Args:
        each: the head knows no softmax.

    Raises:
        UserError: a loss whose scores a decoder does not have.
    """
    loss = getattr(head, "loss_cls", None)
    if getattr(loss, "custom_cls_channels", False):
        raise UserError(
            f"there is no decoder for scores of {type(loss).__name__}; train {type(head).__name__} with FocalLoss or "
            "CrossEntropyLoss, or export without --emit-decoder"
        )
    if each and not head.use_sigmoid_cls:
        raise UserError(
            f"there is no decoder for {type(head).__name__} with a softmax, which its scores do not have; set "
            "loss_cls.use_sigmoid=True, or export without --emit-decoder"
        )
    return {"cls": Address(0, 0, head.cls_out_channels), "softmax": not head.use_sigmoid_cls}


def of_predictions(head: Any) -> Coding:
    """Of a head whose maps are classes, boxes and perhaps factors, each of its own kind."""
    factor = Address(2, 0, 1) if len(head.kinds) > 2 else None
    return Coding(**of_coder(head.bbox_coder), **of_classes(head), box=Address(1, 0, head.box_channels), factor=factor)


def table_of(coder: Any, rows: Tensor, size: Sequence[float], stride: float) -> Tensor:
    """(256, 4) of what a coder gets -> what stands in the tables, in the order of :data:`Form`.

    Args:
        size: width and height of the prior.
        stride: of the level.
    """
    columns = list(rows.unbind(1))
    if isinstance(coder, DeltaCoder):
        deltas = [c * std + mean for c, mean, std in zip(columns, coder.means, coder.stds, strict=True)]
        least, most = coder.growth_limits()
        return torch.stack([*deltas[:2], *(exact.exp(delta.clamp(least, most)) for delta in deltas[2:])], dim=1)
    if isinstance(coder, TBLRBBoxCoder):
        shares = [share * by for share, by in zip(columns, coder.each, strict=True)]
        return torch.stack([size[0] * shares[2], size[1] * shares[0], size[0] * shares[3], size[1] * shares[1]], dim=1)
    if isinstance(coder, YOLOBBoxCoder):
        return torch.stack([*((c - 0.5) * stride for c in columns[:2]), *map(exact.exp, columns[2:])], dim=1)
    return rows
