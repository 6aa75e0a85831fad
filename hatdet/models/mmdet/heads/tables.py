"""What decoders outside the toolbox look up: tables by the codes of an integer network's outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from hatdet.models.mmdet.heads.base import DenseHead
from hatdet.models.mmdet.heads.coding import Address, Coding
from hatdet.models.mmdet.heads.suppression import Suppression
from hatdet.ops import rounded
from hatdet.utils.errors import UserError


@torch.no_grad()
def decoding(head: DenseHead, outputs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Plain values of which decoders are made (``hatdet/export/decoder/tabled``).

    Args:
        head: has ``coding()``, see :class:`Coding`.
        outputs: of the integer network: ``name``, ``shape`` (1, h, w, channels), ``dtype``, ``scale``, ``zero_point``.

    Raises:
        UserError: a head that has no decoder, outputs of 16 bits, or a suppression that decoders do not have.
    """
    coding: Coding = head.coding()
    cfg = coding.read(head.test_cfg)
    wide = [str(o["name"]) for o in outputs if o["dtype"] != "int8"]
    if wide:
        raise UserError(
            f"a decoder of this head looks numbers up by int8 codes, output {wide[0]} has more; set int16_output=False"
        )
    levels = [_level(head, coding, outputs, number) for number in range(len(head.level_strides))]
    total = sum(level["height"] * level["width"] * len(level["anchors"]) for level in levels)
    most, before, smallest = cfg.get("max_per_img", -1), cfg.get("nms_pre", -1), cfg.get("min_bbox_size", -1)
    if coding.peaks:
        most = before = min(cfg.get("topk", 100), total * head.num_classes)
    if most == 0:
        raise UserError("a decoder with max_per_img=0 finds nothing; set test_cfg.max_per_img to 1 or more, -1: all")
    suppression = Suppression.of_peaks() if coding.peaks else Suppression.of(cfg.get("nms"))
    most = min((number for number in (most, suppression.max_num) if number > 0), default=-1)
    return {
        "boxes": coding.form, "softmax": coding.softmax, "early": coding.early, "reaches": coding.reaches,
        "multi_label": coding.multi_label, "whole": coding.whole, "by_level": coding.by_level,
        "by_prior": coding.by_prior, "vote": coding.vote, "clips": coding.clips, "clip_less": coding.clip_less,
        "shift_limit": coding.shift_limit, "more": coding.more, "centre_less": coding.centre_less,
        "num_bins": coding.num_bins, "num_buckets": coding.num_buckets, "growth": coding.growth, "root": coding.root,
        "peaks": coding.kernel if coding.peaks else 0,
        "aligned": coding.shift is not None and coding.form in ("sides", "deltas"),
        "has_factor": coding.factor is not None,
        "score_thr": float(cfg.get("score_thr", -1.0 if "score_thr" in coding.ignores else 0.0)),
        "min_size": float(smallest) if smallest >= 0 else None,
        "nms_pre": int(before) if before > 0 else total * head.num_classes,
        "max_per_img": int(most) if most > 0 else total * (head.num_classes if coding.multi_label else 1),
        **{name: value for name, value in asdict(suppression).items() if name != "max_num"},
        "levels": levels,
    }  # fmt: skip


def _level(head: Any, coding: Coding, outputs: Sequence[Mapping[str, Any]], number: int) -> dict[str, Any]:
    count = len(head.level_strides)
    cls = outputs[coding.cls.kind * count + number]
    height, width = (int(side) for side in cls["shape"][1:3])
    anchors, point = _priors(head, number)
    box = outputs[coding.box.kind * count + number]
    level: dict[str, Any] = {
        "height": height, "width": width, "stride": _stride(head, number),
        "unit": float(head.level_strides[number]),
        "point": point, "anchors": anchors,
        "order": list(coding.order), "cls": _address(coding.cls, count, number),
        "box": _address(coding.box, count, number),
    }  # fmt: skip
    real = real_values(cls)
    if coding.softmax:
        level["exponentials"] = exponentials(real)
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
    if coding.form in ("bins", "buckets"):
        level["bins"] = exponentials(real_values(box))
    else:
        level["values"] = [column.tolist() for column in _values(head, coding, outputs, number)]
    return level


def exponentials(real: Tensor) -> list[float]:
    """Of logits, as :func:`hatdet.ops.rounded.softmax` has them."""
    return rounded.exponentials(real).tolist()


def _first(values: Tensor, threshold: float) -> int:
    """The smallest code whose value reaches ``threshold``; 128 where none does. Values rise with the code."""
    return 128 - int((values >= threshold).sum())


def _address(address: Address, levels: int, number: int) -> dict[str, int]:
    return {"output": address.kind * levels + number, "first": address.first, "step": address.step}


def real_values(output: Mapping[str, Any]) -> Tensor:
    """float32 (256,): the real value of every code, from the lowest."""
    return (torch.arange(-128, 128, dtype=torch.float32) - output["zero_point"]) * output["scale"]


def _stride(head: Any, number: int) -> list[float]:
    """Of the priors, in x and y."""
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
