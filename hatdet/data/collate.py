"""From samples to a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from hatdet.registry import register
from hatdet.utils.errors import UserError


@register
class Collate2D:
    """Stack images of one size and pad their boxes.

    Returns a dict: ``img`` (B, 3, h, w) in channels-last memory, ``gt_boxes`` float32 (B, M, 4) padded with 0,
    ``gt_labels`` int64 (B, M) padded with -1, M at least 1, ``img_id`` int64 (B,), ``orig_size`` and ``img_size``
    int64 (B, 2), ``scale_factor`` float32 (B, 2), and ``file_name``, a list, where the items have it.
    """

    def __call__(self, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        first = items[0]["img"]
        for item in items:
            if item["img"].shape != first.shape:
                shapes = sorted({tuple(i["img"].shape) for i in items})
                raise UserError(f"Collate2D: images of different sizes in a batch: {shapes}; end with Pad(size=...)")
        count, slots = len(items), max(1, *(len(item["gt_labels"]) for item in items))
        img = torch.empty((count, *first.shape), dtype=first.dtype, memory_format=torch.channels_last)
        if torch.utils.data.get_worker_info() is not None:
            img.share_memory_()  # written where the training process reads it, not copied there afterwards
        boxes = torch.zeros((count, slots, 4))
        labels = torch.full((count, slots), -1)
        for i, item in enumerate(items):
            img[i] = item["img"]
            n = len(item["gt_labels"])
            boxes[i, :n] = item["gt_boxes"]
            labels[i, :n] = item["gt_labels"]
        batch: dict[str, Any] = {
            "img": img,
            "gt_boxes": boxes,
            "gt_labels": labels,
            "img_id": torch.tensor([item["img_id"] for item in items]),
            "orig_size": torch.tensor([item["orig_size"] for item in items]),
            "img_size": torch.tensor([item["img_size"] for item in items]),
            "scale_factor": torch.tensor([item["scale_factor"] for item in items], dtype=torch.float32),
        }
        if "file_name" in items[0]:
            batch["file_name"] = [item["file_name"] for item in items]
        return batch
