"""From samples to a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from hatdet.data.transforms.batch.unfinished import join
from hatdet.registry import register
from hatdet.utils.errors import UserError


@register
class Collate2D:
    """Stack images and pad their boxes.

    Args:
        size_divisor: images may differ in size: each is extended at the right and the bottom to the largest height
            and width of the batch, rounded up to multiples of this (MMDetection's rectangular batches). None: sizes
            must agree.
        fill: level of these pixels, or one a channel in the order of the tensors.
        size: (h, w) that the batch has at least; with ``size_divisor``.

    Returns a dict: ``img`` (B, 3, h, w) in channels-last memory, ``gt_boxes`` float32 (B, M, 4) padded with 0,
    ``gt_labels`` int64 (B, M) padded with -1, M at least 1, ``img_id`` int64 (B,), ``orig_size`` and ``img_size``
    int64 (B, 2), ``scale_factor`` float32 (B, 2), and, where the items have them, ``file_name``, a list,
    ``gt_ignore`` float32 (B, K, 4), crowds, padded with 0, ``border`` int64 (B, 4), and ``unfinished``, a dict: what
    :class:`~hatdet.data.transforms.batch.finish.FinishOnDevice` has still to do to ``img``.
    """

    def __init__(
        self,
        size_divisor: int | None = None,
        fill: int | Sequence[int] = 114,
        size: tuple[int, int] | None = None,
    ) -> None:
        if size_divisor is not None and size_divisor < 1:
            raise UserError(f"Collate2D: size_divisor must be at least 1, got {size_divisor}")
        levels = (fill,) if isinstance(fill, int) else tuple(fill)
        if len(levels) not in (1, 3) or not all(0 <= level <= 255 for level in levels):
            raise UserError(f"Collate2D: fill must be in 0..255, got {fill}; give one level, or three")
        if size is not None and size_divisor is None:
            raise UserError(f"Collate2D: size={size} needs size_divisor; give size_divisor=1 too")
        self.size_divisor, self.size = size_divisor, size or (1, 1)
        self.levels = torch.tensor(levels, dtype=torch.uint8)[:, None, None]

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
        largest = (max(self.size[i], *(s[i + 1] for s in shapes)) for i in (0, 1))
        height, width = (-(-side // self.size_divisor) * self.size_divisor for side in largest)
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
            levels = self.levels if len(self.levels) <= shape[0] else self.levels[:1]
            img[i, :, height:] = levels
            img[i, :, :height, width:] = levels
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
        if "gt_ignore" in items[0]:
            batch["gt_ignore"] = _stacked([item["gt_ignore"] for item in items])
        if "border" in items[0]:
            batch["border"] = torch.tensor([item["border"] for item in items])
        if "unfinished" in items[0]:
            batch["unfinished"] = join([item["unfinished"] for item in items], shape[1:])
        if "file_name" in items[0]:
            batch["file_name"] = [item["file_name"] for item in items]
        return batch


def _stacked(boxes: Sequence[torch.Tensor]) -> torch.Tensor:
    """Boxes (n_i, 4) as one tensor (B, max n, 4), padded with 0."""
    stacked = torch.zeros((len(boxes), max(len(b) for b in boxes), 4))
    for row, own in zip(stacked, boxes, strict=True):
        row[: len(own)] = own
    return stacked
