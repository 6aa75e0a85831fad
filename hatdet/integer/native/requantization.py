"""How sums become bytes, as numbers for the kernels in C: what a profile's requantizers say of themselves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[np.int32] | NDArray[np.float32]]


@dataclass(frozen=True)
class FloatProduct:
    """rne(f32(f32(acc) * scale)): ``single_multiply.FloatRequantization``. Shape (C,)."""

    scale: NDArray[np.float32]

    def takes(self, bound: NDArray[np.float64]) -> bool:
        """Whether the kernels compute it of sums of magnitudes up to ``bound``, (C,)."""
        return bool(np.all(bound < 2.0**31))

    @property
    def half(self) -> int:
        return 0

    def arrays(self) -> Arrays:
        """The numbers of the channels, as ``Layer`` of kernels.c calls them."""
        return {"scale": self.scale}


@dataclass(frozen=True)
class FixedPoint:
    """A multiplication by ``m * 2**(e - 31)``, rounded twice (``arithmetic.multiply_by_quantized_multiplier``) or
    ``once`` (``arithmetic.multiply_rounding_once``). Shapes (C,).

    With k = max(-e, 0), s = acc << max(e, 0) and >> the floor: twice is y = (s * m + 2**30) >> 31, then (y + 2**(k-1)
    - (y < 0)) >> k, which sends ties away from zero. Once, with k >= 1: ((s * m >> 31) + 2**(k-1)) >> k, for a floor of
    a floor is one floor; k = 0 is the same with s and k doubled and one more.
    """

    m: NDArray[np.int64]
    e: NDArray[np.int64]
    once: bool

    def takes(self, bound: NDArray[np.float64]) -> bool:
        """Whether the kernels compute it of sums of magnitudes up to ``bound``, (C,): y + 2**(k-1) fits int32."""
        return bool(np.all(bound * np.exp2(self._left.astype(np.float64)) < 2.0**30))

    @property
    def half(self) -> int:
        return 0 if self.once else 1 << 30

    @property
    def _left(self) -> NDArray[np.int64]:
        return np.where(self.e >= 0, self.e + 1, 0) if self.once else np.maximum(self.e, 0)

    def arrays(self) -> Arrays:
        """The numbers of the channels, as ``Layer`` of kernels.c calls them."""
        right = np.where(self.e >= 0, 1, -self.e) if self.once else np.maximum(-self.e, 0)
        add = np.where(right > 0, np.int64(1) << np.maximum(right - 1, 0), 0)
        away = np.zeros_like(right) if self.once else np.where(right > 0, -1, 0)
        named = {"left": self._left, "multiplier": self.m, "add": add, "away": away, "right": right}
        return {name: values.astype(np.int32) for name, values in named.items()}


Fused = FloatProduct | FixedPoint
