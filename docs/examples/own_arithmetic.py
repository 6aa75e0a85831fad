"""An arithmetic of one's own: a DSP that multiplies sums by 16 bits, shifts, and rounds half up, once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from hatdet.integer.profiles.table import add_profile
from hatdet.integer.profiles.tflite_ref import TfliteRef

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hatdet.integer.profile import Requantizer, WeightedSums


class SixteenBits:
    """``y = (acc * m + 2**(n - 1)) >> n`` with m < 2**15, in whole numbers.

    Args:
        multiplier: (C,), the real ones.
    """

    def __init__(self, multiplier: NDArray[np.float64], device: torch.device | str) -> None:
        fraction, exponent = np.frexp(multiplier)  # in [1/2, 1), a power of two
        m, n = np.rint(fraction * 2**15).astype(np.int64), 15 - exponent.astype(np.int64)
        self.m, self.n = (torch.from_numpy(values).to(device).view(1, -1, 1, 1) for values in (m, n))
        self.scale = torch.from_numpy(np.ldexp(m.astype(np.float64), -n)).to(device)  # what gradients see

    def centred(self, acc: torch.Tensor, lo: int, hi: int) -> torch.Tensor:
        """Codes less the zero point, as float32."""
        codes = (acc.to(torch.int64) * self.m + (1 << (self.n - 1))) >> self.n
        return codes.clamp(lo, hi).float().contiguous(memory_format=torch.channels_last)

    def codes(self, acc: torch.Tensor, lo: int, hi: int, zero: int) -> torch.Tensor:
        """Codes as bytes."""
        return (self.centred(acc, lo, hi) + zero).to(torch.uint8)


class Dsp16(TfliteRef):
    """Convolutions of all kinds are the DSP's; what is not here computes as the reference kernels do."""

    name = "dsp16"
    kernels = "the DSP's convolutions, everything else as the reference kernels"

    def sums(self, of: WeightedSums) -> Requantizer:
        if of.y.bits == 16:  # outputs of 16 bits are left to the reference
            return super().sums(of)
        return SixteenBits(of.multiplier, of.device)


add_profile(Dsp16())
