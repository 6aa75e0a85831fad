"""Requantization by one float32 multiplication and one rounding, half to even: how XNNPACK does it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hatdet.integer.kernels import CHUNK, as_maps, as_rows, buffer_of


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

    def centred(self, acc: Tensor, lo: int, hi: int) -> Tensor:
        """Centred codes in [lo, hi] as float32, channels_last; a float32 ``acc`` is overwritten."""
        acc = acc if acc.permute(0, 2, 3, 1).is_contiguous() else acc.contiguous(memory_format=torch.channels_last)
        source, repeat = as_rows(acc)
        target = source if acc.dtype == torch.float32 else source.float()
        scale = self._row(repeat)
        for piece in target.split(_step(target)):
            piece.mul_(scale).round_().clamp_(lo, hi)
        return acc if target is source else as_maps(target, acc)

    def codes(self, acc: Tensor, lo: int, hi: int, zero: int) -> Tensor:
        """Centred codes + ``zero`` as uint8, channels_last (CPU)."""
        acc = acc if acc.permute(0, 2, 3, 1).is_contiguous() else acc.contiguous(memory_format=torch.channels_last)
        source, repeat = as_rows(acc)
        target, scale, step = torch.empty(source.shape, dtype=torch.uint8), self._row(repeat), _step(source)
        size = min(step, source.shape[0]) * source.shape[1]
        real, whole = buffer_of(size, 0, acc.device, torch.float32), buffer_of(size, 2, acc.device, torch.int32)
        for piece, made in zip(source.split(step), target.split(step), strict=True):
            values = real[: piece.numel()].view_as(piece)
            if piece.dtype == torch.float32:
                torch.mul(piece, scale, out=values)
            else:
                values.copy_(piece).mul_(scale)
            made.copy_(whole[: piece.numel()].view_as(piece).copy_(values.round_().clamp_(lo, hi).add_(zero)))
        return as_maps(target, acc)

    def _row(self, repeat: int) -> Tensor:
        if repeat not in self._rows:
            self._rows[repeat] = self.scale.repeat(repeat)
        return self._rows[repeat]


def _step(rows: Tensor) -> int:
    return rows.shape[0] if rows.is_cuda else max(1, CHUNK // rows.shape[1])
