"""From samples to a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from hatdet.registry import register
from hatdet.utils.errors import UserError


@register
class Collate2D:
    """Stack images and pad their boxes.

    Args:
        size_divisor: images may differ in size: each is extended at the right and the bottom to the largest height
            and width of the batch, rounded up to multiples of this (MMDetection's rectangular batches). None: sizes
            must agree.
        fill: grey level of these pixels.

    Returns a dict: ``img`` (B, 3, h, w) in channels-last memory, ``gt_boxes`` float32 (B, M, 4) padded with 0,
    ``gt_labels`` int64 (B, M) padded with -1, M at least 1, ``img_id`` int64 (B,), ``orig_size`` and ``img_size``
    int64 (B, 2), ``scale_factor`` float32 (B, 2), and ``file_name``, a list, where the items have it.
    """

    def __init__(self, size_divisor: int | None = None, fill: int = 114) -> None:
        if size_divisor is not None and size_divisor < 1:
            raise UserError(f"Collate2D: size_divisor must be at least 1, got {size_divisor}")
        if not 0 <= fill <= 255:
            raise UserError(f"Collate2D: fill must be in 0..255, got {fill}")
        self.size_divisor, self.fill = size_divisor, fill

    def _shape(self, items: Sequence[dict[str, Any]]) -> tuple[int, int, int]:
        """(3, h, w) of the batch's images."""
        shapes = sorted({tuple(item["img"].shape) for item in items})
        if self.size_divisor is None:
            if len(shapes) > 1:
                raise UserError(
                    f"Collate2D: images of different sizes in a batch: {shapes}; end with Pad(size=...), or let the "
                    "collation pad them: Collate2D(size_divisor=32)"
                )
            return shapes[0]  # type: ignore[return-value]
        height, width = (-(-max(s[i] for s in shapes) // self.size_divisor) * self.size_divisor for i in (1, 2))
        return shapes[0][0], height, width

    def __call__(self, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        first = items[0]["img"]
        shape = self._shape(items)
        count, slots = len(items), max(1, *(len(item["gt_labels"]) for item in items))
        img = torch.empty((count, *shape), dtype=first.dtype, memory_format=torch.channels_last)
        if torch.utils.data.get_worker_info() is not None:
            img.share_memory_()  # written where the training process reads it, not copied there afterwards
        boxes = torch.zeros((count, slots, 4))
        labels = torch.full((count, slots), -1)
        for i, item in enumerate(items):
            _, height, width = item["img"].shape
            img[i, :, :height, :width] = item["img"]
            img[i, :, height:] = self.fill
            img[i, :, :height, width:] = self.fill
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
