"""From uint8 images to what the network reads, on the network's device."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hatdet.registry import register


@register
class DataPreprocessor(nn.Module):
    """``(img - mean) / std`` of uint8 images; holds no parameter and no buffer.

    Args:
        mean: subtracted; one number, or one a channel in the order of the network's input.
        std: divided by, in the same way; above 0.
        bgr_to_rgb: reverse the channels first.

    Raises:
        ValueError: a count of numbers other than 1 and 3, numbers that are not finite, or a 0 or less in ``std``.
    """

    def __init__(
        self, *, mean: float | Sequence[float], std: float | Sequence[float], bgr_to_rgb: bool = False
    ) -> None:
        super().__init__()
        self.mean = _numbers("mean", mean)
        self.std = _numbers("std", std)
        if min(self.std) <= 0.0:
            raise ValueError(f"std must not contain 0 or less, got {std}; 255 brings pixels to [0, 1]")
        self.bgr_to_rgb = bgr_to_rgb

    def forward(self, img: Tensor) -> Tensor:
        """Normalize.

        Args:
            img: uint8 (B, 3, H, W). Floating point images count as normalized and pass.

        Returns:
            float32 (B, 3, H, W) in channels_last memory.

        Raises:
            TypeError: neither uint8 nor floating point.
        """
        if img.is_floating_point():
            return img.contiguous(memory_format=torch.channels_last)
        if img.dtype != torch.uint8:
            raise TypeError(f"images must be uint8, or floating point if normalized already, got {img.dtype}")
        if self.bgr_to_rgb:
            img = img.flip(1)
        x = img.to(torch.float32, memory_format=torch.channels_last)
        if any(self.mean):
            x = x.sub_(_constant(self.mean, x))
        return x.div_(_constant(self.std, x))

    def extra_repr(self) -> str:
        return f"mean={self.mean}, std={self.std}, bgr_to_rgb={self.bgr_to_rgb}"


def _numbers(name: str, value: float | Sequence[float]) -> tuple[float, ...]:
    numbers = (float(value),) if isinstance(value, (int, float)) else tuple(float(v) for v in value)
    if len(numbers) not in (1, 3):
        raise ValueError(f"{name} must be one number or three, got {value}")
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"{name} must be finite, got {value}")
    return numbers


def _constant(numbers: tuple[float, ...], like: Tensor) -> float | Tensor:
    if len(set(numbers)) == 1:
        return numbers[0]
    return torch.tensor(numbers, dtype=like.dtype).to(like.device, non_blocking=True)[:, None, None]
