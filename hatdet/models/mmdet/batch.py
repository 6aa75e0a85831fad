"""A batch as the dense heads take it: what is to be found in each picture, and how the picture lies in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from hatdet.models.mmdet.heads.base import PictureMeta, Truth


def truths_of(batch: Mapping[str, Any]) -> list[Truth]:
    """Of ``gt_boxes`` (B, M, 4) and ``gt_labels`` (B, M), -1 where padded, and ``gt_ignore`` (B, K, 4), padded with
    boxes without an area, where the batch has it."""
    boxes, labels, ignored = batch["gt_boxes"], batch["gt_labels"], batch.get("gt_ignore")
    found = []
    for i, label in enumerate(labels):
        known = label >= 0
        others = boxes.new_zeros((0, 4)) if ignored is None else _solid(ignored[i])
        found.append(Truth(boxes[i][known], label[known], others))
    return found


def _solid(boxes: Tensor) -> Tensor:
    return boxes[(boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])]


def metas_of(batch: Mapping[str, Any]) -> list[PictureMeta]:
    """Of ``img`` (B, C, H, W) and, where the batch has them, ``img_size``, ``orig_size`` (B, 2) h, w, ``scale_factor``
    (B, 2) x, y, ``border`` (B, 4) top, bottom, left, right and ``flip`` (B,)."""
    count, size = len(batch["img"]), tuple(int(side) for side in batch["img"].shape[2:])
    whole = torch.tensor([size] * count)
    shapes = _rows(batch.get("img_size", whole), int)
    files = _rows(batch.get("orig_size", whole), int)
    factors = _rows(batch.get("scale_factor", torch.ones(count, 2)), float)
    borders = _rows(batch["border"], float) if "border" in batch else None
    metas: list[PictureMeta] = []
    for i in range(count):
        meta: dict[str, Any] = {
            "img_shape": shapes[i], "pad_shape": size, "batch_input_shape": size, "ori_shape": files[i],
            "scale_factor": factors[i], "flip": bool(batch["flip"][i]) if "flip" in batch else False,
            "border": borders[i] if borders is not None else (0, size[0], 0, size[1]),
        }  # fmt: skip
        metas.append(meta)  # type: ignore[arg-type]
    return metas


def _rows(values: Tensor | Sequence[Sequence[float]], kind: type) -> list[tuple[Any, ...]]:
    rows = values.tolist() if isinstance(values, Tensor) else values
    return [tuple(kind(value) for value in row) for row in rows]
