"""The operators of the integer model as plain data, and the quantization of tensors. Layout of shapes: (C, H, W)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray


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
    shape: tuple[int, int, int]
    qparams: QuantParams


class _OneInput:
    """An operator that reads ``input``."""

    input: str

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input,)


class _TwoInputs:
    """An operator that reads ``input1`` and ``input2``."""

    input1: str
    input2: str

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.input1, self.input2)


@dataclass(frozen=True, eq=False)
class ConvOp(_OneInput):
    """Convolution (dense, grouped or depthwise) with symmetric zero padding as torch's, and a fused activation.

    acc = sum w * (x - Zx) + bias; y = clamp(MBQM(acc; Sx * Sw_c / Sy) + Zy, lo, hi). A padded position contributes 0.
    An output of 16 bits has the reduced multiplier instead: ``arithmetic.prepare_requantization16``.
    """

    kind: ClassVar[str] = "conv"
    name: str
    input: str
    output: str
    weight: NDArray[np.int8]  # (O, I / groups, kh, kw)
    bias: NDArray[np.int32]  # (O,), scale Sx * Sw_c, zero point 0
    weight_scale: NDArray[np.float32]  # (O,)
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int
    activation: str  # none, relu, relu6
    lo: int
    hi: int


@dataclass(frozen=True)
class AddOp(_TwoInputs):
    """Elementwise sum of two tensors of one shape; the result of each pair of codes is ``arithmetic.add_table``."""

    kind: ClassVar[str] = "add"
    name: str
    input1: str
    input2: str
    output: str
    activation: str
    lo: int
    hi: int


@dataclass(frozen=True)
class MaxPoolOp(_OneInput):
    """Max pooling; padded positions never win. Parameters are unchanged."""

    kind: ClassVar[str] = "max_pool"
    name: str
    input: str
    output: str
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]


@dataclass(frozen=True)
class AveragePoolOp(_OneInput):
    """Mean of unpadded windows, rounded half away from zero on codes. Parameters are unchanged."""

    kind: ClassVar[str] = "average_pool"
    name: str
    input: str
    output: str
    kernel: tuple[int, int]
    stride: tuple[int, int]


@dataclass(frozen=True)
class PadOp(_OneInput):
    """Rows and columns of real zeros around a tensor. Parameters are unchanged."""

    kind: ClassVar[str] = "pad"
    name: str
    input: str
    output: str
    padding: tuple[int, int, int, int]  # top, bottom, left, right


@dataclass(frozen=True)
class ClampOp(_OneInput):
    """ReLU or ReLU6 that no convolution or addition takes in: codes clamped to [lo, hi]. Parameters are unchanged."""

    kind: ClassVar[str] = "clamp"
    name: str
    input: str
    output: str
    activation: str  # relu, relu6
    lo: int
    hi: int


@dataclass(frozen=True)
class ConcatOp:
    """Concatenation along channels of tensors with equal quantization."""

    kind: ClassVar[str] = "concat"
    name: str
    input_names: tuple[str, ...]
    output: str

    @property
    def inputs(self) -> tuple[str, ...]:
        return self.input_names


@dataclass(frozen=True)
class ResizeNearestOp(_OneInput):
    """Nearest-neighbour enlargement by an integer factor on both axes. Parameters are unchanged."""

    kind: ClassVar[str] = "resize_nearest"
    name: str
    input: str
    output: str
    factor: int


@dataclass(frozen=True)
class ResizeBilinearOp(_OneInput):
    """Bilinear enlargement by 2, 4 or 8 with half-pixel centres (torch's ``align_corners=False``).

    The weighted sum of four codes, rounded half away from zero on codes. Parameters are unchanged.
    """

    kind: ClassVar[str] = "resize_bilinear"
    name: str
    input: str
    output: str
    factor: int


@dataclass(frozen=True)
class RequantizeOp(_OneInput):
    """Change of quantization: y = clamp(MBQM(x - Zx; Sx / Sy) + Zy)."""

    kind: ClassVar[str] = "requantize"
    name: str
    input: str
    output: str


@dataclass(frozen=True)
class GlobalAveragePoolOp(_OneInput):
    """Mean of every channel, (C, H, W) -> (C, 1, 1), rounded half away from zero on codes. Parameters are unchanged."""

    kind: ClassVar[str] = "global_average_pool"
    name: str
    input: str
    output: str


@dataclass(frozen=True)
class MulOp(_TwoInputs):
    """Elementwise product: ``arithmetic.mul_table``. ``input2`` has the shape of ``input1``, or (C, 1, 1)."""

    kind: ClassVar[str] = "mul"
    name: str
    input1: str
    input2: str
    output: str


@dataclass(frozen=True)
class ActivationOp(_OneInput):
    """An activation of its own: ``function`` is one of ``activations.FUNCTIONS``; ``activations.activation_table``.

    The output of sigmoid and hardsigmoid has the quantization ``activations.UNIT_INTERVAL``.
    """

    kind: ClassVar[str] = "activation"
    name: str
    input: str
    output: str
    function: str


@dataclass(frozen=True, eq=False)
class FloatOp:
    """An operator that ``keep_float`` leaves in float: real inputs, real output, see ``islands.real_function``.

    A graph with such islands can be evaluated, not exported.
    """

    kind: ClassVar[str] = "float"
    name: str
    function: str  # conv, add, mul, activation, ...
    input_names: tuple[str, ...]
    output: str
    arguments: dict[str, Any]
    weight: NDArray[np.float32] | None = None
    bias: NDArray[np.float32] | None = None

    @property
    def inputs(self) -> tuple[str, ...]:
        return self.input_names


IntOp = (
    ConvOp
    | AddOp
    | MaxPoolOp
    | ConcatOp
    | ResizeNearestOp
    | RequantizeOp
    | GlobalAveragePoolOp
    | MulOp
    | ActivationOp
    | FloatOp
    | AveragePoolOp
    | PadOp
    | ClampOp
    | ResizeBilinearOp
)
OP_TYPES: dict[str, type] = {
    cls.kind: cls
    for cls in (
        ConvOp, AddOp, MaxPoolOp, ConcatOp, ResizeNearestOp, RequantizeOp, GlobalAveragePoolOp, MulOp, ActivationOp,
        FloatOp, AveragePoolOp, PadOp, ClampOp, ResizeBilinearOp,
    )
}  # fmt: skip
SHARING_KINDS = (
    "concat", "max_pool", "average_pool", "global_average_pool", "resize_nearest", "resize_bilinear", "pad", "clamp",
)  # fmt: skip
"""Operators whose inputs and output have one quantization."""
