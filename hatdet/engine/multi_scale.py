"""Batches of changing size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hatdet.registry import register
from hatdet.utils.errors import UserError

if TYPE_CHECKING:
    from hatdet.engine.loop import Loop


@register
class MultiScale:
    """Batch transform: every ``interval`` steps another size for the whole batch (MMYOLO, Ultralytics: multi-scale).

    Images are resized on the training device (bilinear), boxes with them. The sizes are the multiples of
    ``size_divisor`` nearest to ``ratio * (h, w)`` of the batch, for ratios in ``ratio_range``. Which one is drawn
    depends on the seed and the step alone: all processes train with the same size, and an interrupted run goes on with
    the size that it would have had.

    Args:
        ratio_range: smallest and largest ratio to the size that the data loader gives. Below 1 training also gets
            cheaper: (0.7, 1.0) costs about three quarters.
        interval: steps with the same size.
        num_last_epochs: at the end, with the loader's own size: what validation and the device see.
        size_divisor: the network's largest stride.
        seed: decides which sizes come when.
    """

    def __init__(
        self,
        *,
        ratio_range: Sequence[float] = (0.75, 1.25),
        interval: int = 10,
        num_last_epochs: int = 0,
        size_divisor: int = 32,
        seed: int = 0,
    ) -> None:
        if len(ratio_range) != 2 or not 0 < ratio_range[0] <= ratio_range[1]:
            raise UserError(
                f"MultiScale: ratio_range is {tuple(ratio_range)}; expected two ratios, the smaller first, above 0"
            )
        for name, value, least in (
            ("interval", interval, 1),
            ("num_last_epochs", num_last_epochs, 0),
            ("size_divisor", size_divisor, 1),
            ("seed", seed, 0),
        ):
            if value < least:
                raise UserError(f"MultiScale: {name} is {value}; at least {least} is needed")
        self.low, self.high = float(ratio_range[0]), float(ratio_range[1])
        self.interval, self.num_last_epochs = interval, num_last_epochs
        self.size_divisor, self.seed = size_divisor, seed
        self._draw: float | None = None

    def begin_step(self, loop: Loop) -> None:
        """Note which step comes; the batch processor calls it before the batch arrives."""
        if loop.progress.epoch >= loop.num_epochs - self.num_last_epochs:
            self._draw = None
            return
        key = np.array([self.seed, loop.progress.step // self.interval], np.uint64)
        self._draw = float(np.random.Generator(np.random.Philox(key=key)).random())

    def sizes(self, size: tuple[int, int]) -> list[tuple[int, int]]:
        """The sizes (h, w) that may come for a loader's size, ascending; never fewer than one."""
        shorter = min(size)
        first = max(1, round(self.low * shorter / self.size_divisor))
        last = max(first, round(self.high * shorter / self.size_divisor))
        ratios = [count * self.size_divisor / shorter for count in range(first, last + 1)]
        return [self._rounded(size, ratio) for ratio in ratios]

    def _rounded(self, size: tuple[int, int], ratio: float) -> tuple[int, int]:
        height, width = (max(1, round(ratio * side / self.size_divisor)) * self.size_divisor for side in size)
        return height, width

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The batch in the size of this step; unchanged in the last epochs and before the first step."""
        if self._draw is None:
            return batch
        height, width = batch["img"].shape[-2:]
        sizes = self.sizes((height, width))
        new = sizes[int(self._draw * len(sizes))]
        if new == (height, width):
            return batch
        ratio = torch.tensor([new[0] / height, new[1] / width], device=batch["img"].device)
        result = dict(batch, img=_resize(batch["img"], new))
        for key in ("gt_boxes", "gt_ignore"):
            if key in batch:
                result[key] = batch[key] * ratio.flip(0).repeat(2).to(batch[key])
        if "scale_factor" in batch:
            result["scale_factor"] = batch["scale_factor"] * ratio.flip(0).to(batch["scale_factor"])
        if "img_size" in batch:
            result["img_size"] = (batch["img_size"] * ratio).round().to(batch["img_size"])
        return result


def _resize(img: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, 3, H, W) to (B, 3, h, w), of the same type and memory format."""
    resized = F.interpolate(img.float(), size=size, mode="bilinear", align_corners=False)
    if not img.is_floating_point():
        resized = resized.round().clamp(0, 255)
    return resized.to(img.dtype)
