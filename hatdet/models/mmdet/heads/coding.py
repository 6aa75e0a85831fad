"""How the integer outputs of a head say boxes and scores: as plain values, tables by code, for decoders on devices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from hatdet.models.mmdet import exact
from hatdet.models.mmdet.coders.delta import DeltaXYWHBBoxCoder
from hatdet.models.mmdet.coders.distance import DistancePointBBoxCoder, TBLRBBoxCoder
from hatdet.models.mmdet.coders.yolo import YOLOBBoxCoder
from hatdet.models.mmdet.heads.base import DenseHead
from hatdet.utils.errors import UserError

Form = Literal["sides", "deltas", "cells", "centre", "bins", "peaks"]
"""How the four values of a box, looked up by code, make it, with a prior of centre (x, y) and size (w, h):

* ``sides``: x - v[0], y - v[1], x + v[2], y + v[3];
* ``deltas``: centre x + w v[0] and half a width of 0.5 (w v[2]), and so in y;
* ``cells``: centre x + v[0], half a width of (0.5 w) v[2];
* ``centre``: centre v[0] + x, half a width of v[2] / 2;
* ``bins``: sides, each the mean of 0, 1, 2, ... under a softmax of as many values, times the stride;
* ``peaks``: centre cell + v[0] and half a width of v[2] / 2, all times the stride; v[0] and v[1] are ``shift``'s. A
  score that a neighbour's exceeds is 0; boxes do not suppress each other.
"""
CODES = 256


@dataclass(frozen=True)
class Address:
    """Where the numbers of prior a lie: channels ``first + a * step``, ... of the maps of a kind."""

    kind: int
    first: int
    step: int


@dataclass(frozen=True)
class Coding:
    """What a decoder has to know of a head besides its numbers.

    Attributes:
        form: see :data:`Form`.
        cls, box, factor: where classes, box values and, if there is one, the factor of the scores are.
        softmax: scores are shares of the class logits, the last of which is the background; else sigmoids.
        early: the threshold sees the product of class score and factor; else the class score alone.
        reaches: a score passes that reaches the threshold; else one above it.
        multi_label: each class of a prior is a candidate; else the best one.
        whole: ``nms_pre`` is of all levels together.
        by_level: boxes of different levels do not suppress each other.
        clips: boxes are cut to the picture, ``clip_less`` pixels before its right and lower edge.
        order: where left, top, right, bottom (x, y, w, h) are among the box values.
        shift_limit: of ``deltas``: a centre moves at most so many pixels.
        factor_thr: a factor below it has no candidates.
        num_bins: of ``bins``.
        root: a score is the root of the product of class score and factor.
        shift: where the offsets of ``peaks`` are; or of ``sides`` in strides, shifts (y, x) of each side, in positions:
            it is read there between the sides of four positions, if the sides read are a box.
        kernel: of ``peaks``: side of the square of neighbours.
    """

    form: Form
    cls: Address
    box: Address
    factor: Address | None = None
    softmax: bool = False
    early: bool = False
    reaches: bool = False
    multi_label: bool = True
    whole: bool = False
    by_level: bool = False
    clips: bool = True
    clip_less: int = 0
    order: tuple[int, int, int, int] = (0, 1, 2, 3)
    shift_limit: float | None = None
    factor_thr: float | None = None
    num_bins: int = 0
    root: bool = False
    shift: Address | None = None
    kernel: int = 3


def of_coder(coder: Any) -> dict[str, Any]:
    """The arguments of :class:`Coding` that follow from a box coder.

    Raises:
        UserError: boxes of this coder have no decoder.
    """
    if type(coder) is DeltaXYWHBBoxCoder:
        limit = float(coder.ctr_clamp) if coder.add_ctr_clamp else None
        return {"form": "deltas", "clips": coder.clip_border, "shift_limit": limit}
    if type(coder) is TBLRBBoxCoder:
        return {"form": "sides", "clips": coder.clip_border, "order": (2, 0, 3, 1)}
    if type(coder) is DistancePointBBoxCoder:
        return {"form": "sides", "clips": coder.clip_border}
    if type(coder) is YOLOBBoxCoder:
        return {"form": "cells", "clips": False}
    raise UserError(
        f"there is no decoder for boxes of {type(coder).__name__}; export without --emit-decoder, and score the file "
        "with tools/test.py"
    )


def of_predictions(head: Any) -> Coding:
    """Of a head whose maps are classes, boxes and perhaps factors, each of its own kind."""
    boxes = of_coder(head.bbox_coder)
    factor = Address(2, 0, 1) if len(head.kinds) > 2 else None
    classes = Address(0, 0, head.cls_out_channels)
    return Coding(
        cls=classes, box=Address(1, 0, head.box_channels), factor=factor, softmax=not head.use_sigmoid_cls, **boxes
    )


def table_of(coder: Any, rows: Tensor, size: Sequence[float], stride: float) -> Tensor:
    """(256, 4) of what a coder gets -> what stands in the tables, in the order of :data:`Form`.

    Args:
        size: width and height of the prior.
        stride: of the level.
    """
    columns = list(rows.unbind(1))
    if isinstance(coder, DeltaXYWHBBoxCoder):
        deltas = [c * std + mean for c, mean, std in zip(columns, coder.means, coder.stds, strict=True)]
        least, most = coder.growth_limits()
        return torch.stack([*deltas[:2], *(exact.exp(delta.clamp(least, most)) for delta in deltas[2:])], dim=1)
    if isinstance(coder, TBLRBBoxCoder):
        shares = [share * by for share, by in zip(columns, coder.each, strict=True)]
        return torch.stack([size[0] * shares[2], size[1] * shares[0], size[0] * shares[3], size[1] * shares[1]], dim=1)
    if isinstance(coder, YOLOBBoxCoder):
        return torch.stack([*((c - 0.5) * stride for c in columns[:2]), *map(exact.exp, columns[2:])], dim=1)
    return rows


@torch.no_grad()
def decoding(head: DenseHead, outputs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Plain values of which decoders are made (``hatdet/export/decoder/tabled``).

    Args:
        head: has ``coding()``, see :class:`Coding`.
        outputs: of the integer network: ``name``, ``shape`` (1, h, w, channels), ``dtype``, ``scale``, ``zero_point``.

    Raises:
        UserError: a head that has no decoder, or outputs of 16 bits.
    """
    coding, cfg = head.coding(), dict(head.test_cfg or {})
    wide = [str(o["name"]) for o in outputs if o["dtype"] != "int8"]
    if wide:
        raise UserError(
            f"a decoder of this head looks numbers up by int8 codes, output {wide[0]} has more; set int16_output=False"
        )
    peaks, nms = coding.form == "peaks", dict(cfg.get("nms") or {})
    if str(nms.get("type", "nms")).rpartition(".")[2] != "nms":
        raise UserError(f"decoders suppress overlapping boxes, nms type {nms['type']!r} does not: set type='nms'")
    levels = [_level(head, coding, outputs, number) for number in range(len(head.level_strides))]
    total = sum(level["height"] * level["width"] * len(level["anchors"]) for level in levels)
    most, before = cfg.get("max_per_img", -1), cfg.get("nms_pre", -1)
    if peaks:
        most = before = min(cfg.get("topk", 100), total * head.num_classes)
    return {
        "boxes": coding.form, "softmax": coding.softmax, "early": coding.early, "reaches": coding.reaches,
        "multi_label": coding.multi_label, "whole": coding.whole, "by_level": coding.by_level, "clips": coding.clips,
        "clip_less": coding.clip_less,
        "shift_limit": coding.shift_limit, "num_bins": coding.num_bins, "root": coding.root,
        "peaks": coding.kernel if peaks else 0,
        "aligned": coding.shift is not None and not peaks, "has_factor": coding.factor is not None,
        "score_thr": -1.0 if peaks else float(cfg.get("score_thr", 0.0)),
        "min_size": None if peaks or cfg.get("min_bbox_size", -1) < 0 else float(cfg["min_bbox_size"]),
        "nms_pre": int(before) if before > 0 else total * head.num_classes,
        "max_per_img": int(most) if most >= 0 else total * (head.num_classes if coding.multi_label else 1),
        "iou_threshold": float(nms.get("iou_threshold", 0.5)),
        "class_agnostic": bool(nms.get("class_agnostic", False)),
        "levels": levels,
    }  # fmt: skip


def _level(head: Any, coding: Coding, outputs: Sequence[Mapping[str, Any]], number: int) -> dict[str, Any]:
    count = len(head.level_strides)
    cls = outputs[coding.cls.kind * count + number]
    height, width = (int(side) for side in cls["shape"][1:3])
    anchors, point = _priors(head, number)
    box = outputs[coding.box.kind * count + number]
    level: dict[str, Any] = {
        "height": height, "width": width, "stride": _stride(head, coding, number),
        "unit": float(head.level_strides[number]),
        "point": point, "anchors": anchors,
        "order": list(coding.order), "cls": _address(coding.cls, count, number),
        "box": _address(coding.box, count, number),
    }  # fmt: skip
    real = real_values(cls)
    if coding.softmax:
        level["exponentials"] = real.double().clamp(-exact.MOST, exact.MOST).exp().tolist()
    else:
        level["scores"] = head.class_scores(real[:, None])[:, 0].tolist()
    if coding.factor is not None:
        level["factor"] = _address(coding.factor, count, number)
        factors = head.score_factors(real_values(outputs[coding.factor.kind * count + number]))
        level["factors"] = factors.tolist()
        level["factor_gate"] = _first(factors, coding.factor_thr) if coding.factor_thr is not None else -128
    if coding.shift is not None:
        level["shift"] = _address(coding.shift, count, number)
        if coding.form != "peaks":
            level["shifts"] = real_values(outputs[coding.shift.kind * count + number]).tolist()
    if coding.form == "bins":
        level["bins"] = real_values(box).double().clamp(-exact.MOST, exact.MOST).exp().tolist()
    else:
        level["values"] = [column.tolist() for column in _values(head, coding, outputs, number)]
    return level


def _first(values: Tensor, threshold: float) -> int:
    """The smallest code whose value reaches ``threshold``; 128 where none does. Values rise with the code."""
    return 128 - int((values >= threshold).sum())


def _address(address: Address, levels: int, number: int) -> dict[str, int]:
    return {"output": address.kind * levels + number, "first": address.first, "step": address.step}


def real_values(output: Mapping[str, Any]) -> Tensor:
    """float32 (256,): the real value of every code, from the lowest."""
    return (torch.arange(-128, 128, dtype=torch.float32) - output["zero_point"]) * output["scale"]


def _stride(head: Any, coding: Coding, number: int) -> list[float]:
    """Of the priors, in x and y: 1 where sides are said in strides, and read elsewhere."""
    if coding.shift is not None and coding.form != "peaks":
        return [1.0, 1.0]
    generator = getattr(head, "prior_generator", None)
    return [float(s) for s in generator.strides[number]] if generator else [float(head.level_strides[number])] * 2


def _priors(head: Any, number: int) -> tuple[list[list[float]], bool]:
    """Priors of the first cell, xyxy, and whether they are points: then x, y, x, y as shares of the cell."""
    if hasattr(head, "prior_shares"):
        return [[float(head.prior_shares)] * 4], True
    sizes = [(1, 1)] * len(head.level_strides)
    first = head.prior_generator.grid_priors(sizes, dtype=torch.float32, device="cpu")[number]
    if first.shape[1] == 4:
        return first.tolist(), False
    return [[float(head.prior_generator.offset)] * 4], True


def _values(head: Any, coding: Coding, outputs: Sequence[Mapping[str, Any]], number: int) -> list[Tensor]:
    """Four tables (256,): what the head makes of each code, by running it on a map that has all of them."""
    maps = [
        real_values(output).reshape(1, 1, 16, 16).expand(1, int(output["shape"][3]), 16, 16).clone()
        for output in outputs
    ]
    if coding.shift is not None:
        return list(head.box_tables(maps, number))
    refined = head.refine(*head.levels(maps))
    level = refined[coding.box.kind][number]
    rows = level[0].flatten(1)[coding.box.first : coding.box.first + 4].T  # (256, 4)
    return [column.clone() for column in head.box_table(rows, number).unbind(1)]
