"""Requantization by one float32 multiplication and one rounding, half to even: how XNNPACK does it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hatdet.integer.kernels import CHUNK, as_maps, as_rows
from hatdet.integer.native.requantization import FloatProduct
from hatdet.integer.rounding import rounded_bytes


class FloatRequantization:
    """``y = rne(f32(f32(acc) * scale))``: f32 rounds half to even too.

    Accumulators are exact, float32 or float64 ones; the conversion of those of 2**24 and more rounds once, as that of
    the kernel's int32 does. Limits and zero point are applied after the rounding, to integers.

    Args:
        scale: (C,), float32.
    """

    def __init__(self, scale: NDArray[np.float32], device: torch.device | str = "cpu") -> None:
        self.scale = torch.from_numpy(np.ascontiguousarray(scale, dtype=np.float32)).to(device)
        self._rows: dict[int, Tensor] = {}

    @property
    def fused(self) -> FloatProduct:
        """For the kernels in C."""
        return FloatProduct(self.scale.cpu().numpy())

    def centred(self, acc: Tensor, lo: int, hi: int) -> Tensor:
        """Centred codes in [lo, hi] as float32, channels_last; a float32 ``acc`` is overwritten."""
        acc, rows, scale = self._laid_out(acc)
        for piece in rows.split(_step(rows)):
            piece.mul_(scale).round_().clamp_(lo, hi)
        return as_maps(rows, acc)

    def codes(self, acc: Tensor, lo: int, hi: int, zero: int) -> Tensor:
        """Centred codes + ``zero`` as uint8, channels_last (CPU); a float32 ``acc`` is overwritten."""
        acc, rows, scale = self._laid_out(acc)
        if (step := _step(rows)) >= rows.shape[0]:
            made = rounded_bytes(rows.mul_(scale), zero)
        else:
            made = torch.cat([rounded_bytes(piece.mul_(scale), zero) for piece in rows.split(step)])
        if lo + zero > 0 or hi + zero < 255:
            made.clamp_(max(lo + zero, 0), min(hi + zero, 255))
        return as_maps(made, acc)

    def _laid_out(self, acc: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The accumulators as float32 in channels_last memory, the same as rows, and the scale for a row."""
        if acc.dtype != torch.float32:
            acc = acc.float()
        acc = acc.contiguous(memory_format=torch.channels_last)
        rows, repeat = as_rows(acc)
        if repeat not in self._rows:
            self._rows[repeat] = self.scale.repeat(repeat)
        return acc, rows, self._rows[repeat]


def _step(rows: Tensor) -> int:
    return rows.shape[0] if rows.is_cuda else max(1, CHUNK // rows.shape[1])
