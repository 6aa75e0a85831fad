"""Which boxes of a picture stay, by ``test_cfg.nms``: in torch, and as numbers for decoders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hatdet.models.mmdet.post.suppression import METHODS, batched_nms, kind_of
from hatdet.ops.nms import batched_nms as plain_nms
from hatdet.utils.errors import UserError

PLAIN = {"type", "iou_threshold", "class_agnostic", "split_thr"}
_HARD = PLAIN | {"iou_thr", "max_num", "offset", "score_threshold"}
KINDS = {"nms": _HARD, "soft_nms": (_HARD - {"score_threshold"}) | {"sigma", "min_score", "method"}}
"""Settings of each kind of suppression; ``split_thr`` says only how it is computed."""


def suppress(
    boxes: Tensor, scores: Tensor, groups: Tensor, nms: Mapping[str, Any] | None, most: int
) -> tuple[Tensor, Tensor]:
    """Indices of the boxes that stay, best first, at most ``most`` (-1: all), and their scores.

    A decoder on a device finds the same: of equal scores the first, overlaps of plain suppression in float64, of soft
    suppression in float32, one after the other.

    Args:
        boxes: (n, 4). scores: (n,). groups: int (n,): boxes of different groups do not touch each other.
        nms: see :func:`hatdet.models.mmdet.post.suppression.batched_nms`; None: all stay.
    """
    if nms is not None and kind_of(nms) == "nms" and set(nms) <= PLAIN:
        labels = torch.zeros_like(groups) if nms.get("class_agnostic", False) else groups
        keep = plain_nms(boxes, scores, labels, nms["iou_threshold"], max_keep=most if most >= 0 else None)
        return keep, scores[keep]
    order = scores.sort(descending=True, stable=True).indices  # of equal scores the first, among the rest as well
    if nms is None:
        found, keep = scores[order], order
    else:
        dets, keep = batched_nms(boxes[order], scores[order], groups[order], nms)
        found, keep = dets[:, -1], order[keep]  # soft suppression lowers scores
    return (keep[:most], found[:most]) if most >= 0 else (keep, found)


@dataclass(frozen=True)
class Suppression:
    """What a decoder has to know of ``test_cfg.nms``.

    Attributes:
        suppresses: boxes that overlap a better one are dropped, or with ``soft`` lose score.
        soft: the method of :func:`hatdet.models.mmdet.post.suppression.soft_nms`; empty: they are dropped.
        iou_threshold, sigma, min_score: see there.
        class_agnostic: boxes of different classes suppress each other.
        max_num: boxes that stay; -1: all.
    """

    suppresses: bool = True
    soft: str = ""
    iou_threshold: float = 0.5
    sigma: float = 0.5
    min_score: float = 1e-3
    class_agnostic: bool = False
    max_num: int = -1

    @classmethod
    def of_peaks(cls) -> Suppression:
        """Of heads whose boxes do not suppress each other."""
        return cls(suppresses=False)

    @classmethod
    def of(cls, nms: Mapping[str, Any] | None) -> Suppression:
        """Of ``test_cfg.nms``; None: all boxes stay.

        Raises:
            UserError: a suppression that decoders do not have.
        """
        if nms is None:
            return cls(suppresses=False)
        kind = kind_of(nms)
        soft = kind == "soft_nms"
        unknown = [key for key in nms if key not in KINDS.get(kind, ())]
        odd = [f"nms.{key}={nms[key]!r}" for key in ("offset", "score_threshold") if nms.get(key, 0)]
        odd += [f"nms.{key}={nms[key]!r}" for key in unknown]
        if kind not in KINDS:
            odd = [f"nms.type={nms['type']!r}"]
        elif soft and nms.get("method", "linear") not in METHODS:
            odd = [f"nms.method={nms['method']!r}"]
        if odd:
            raise UserError(
                f"decoders have no {', '.join(odd)}; set nms=dict(type='nms', iou_threshold=...) or a soft_nms "
                f"({', '.join(METHODS)}), or export without --emit-decoder"
            )
        threshold = nms.get("iou_threshold", nms.get("iou_thr", 0.3 if soft else None))
        if threshold is None:
            raise UserError("test_cfg.nms says no iou_threshold; write nms=dict(type='nms', iou_threshold=0.6)")
        return cls(
            soft=str(nms.get("method", "linear")) if soft else "",
            iou_threshold=float(threshold),
            sigma=float(nms.get("sigma", 0.5)),
            min_score=float(nms.get("min_score", 1e-3)),
            class_agnostic=bool(nms.get("class_agnostic", False)),
            max_num=int(nms.get("max_num", -1)),
        )
