"""Quantized tensors as plain data. Layout of shapes: (C, H, W), one image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class QuantParams:
    """Affine quantization of a tensor: real = scale * (code - zero_point); ``scale`` is a float32 value.

    Codes have 8 bits, or 16 (outputs of convolutions only; zero point 0).
    """

    scale: float
    zero_point: int
    bits: int = 8

    def __post_init__(self) -> None:
        if not (self.scale > 0 and np.isfinite(self.scale)) or float(np.float32(self.scale)) != self.scale:
            raise ValueError(f"a scale must be a positive finite float32 value, got {self.scale!r}")
        if self.bits not in (8, 16):
            raise ValueError(f"codes have 8 or 16 bits, got {self.bits}")
        if self.bits == 8 and not -128 <= self.zero_point <= 127:
            raise ValueError(f"an int8 zero point lies in [-128, 127], got {self.zero_point}")
        if self.bits == 16 and self.zero_point != 0:
            raise ValueError(f"int16 codes are symmetric (zero point 0), got {self.zero_point}")

    @property
    def lowest(self) -> int:
        """The smallest code."""
        return -(1 << (self.bits - 1))

    @property
    def highest(self) -> int:
        """The largest code."""
        return (1 << (self.bits - 1)) - 1

    @property
    def dtype(self) -> str:
        """Name of the codes' type: ``int8`` or ``int16``."""
        return f"int{self.bits}"


@dataclass(frozen=True)
class TensorInfo:
    """A tensor of the graph: its name, (C, H, W) shape for one image, and quantization."""

    name: str
    shape: Shape
    qparams: QuantParams
