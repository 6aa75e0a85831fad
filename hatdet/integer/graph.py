"""The integer model as plain data: int8 tensors, the operators between them, and their exact parameters.

An :class:`IntGraph` is what QAT2Int produces and what every way out of the toolbox reads: the torch executor, the
``.tflite`` writer, the parity check. It holds no torch module and no float weight. Layout of shapes: (C, H, W), one
image.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hatdet.integer.arithmetic import PROFILE
from hatdet.utils.errors import UserError

FORMAT_VERSION = 1


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


@dataclass
class IntGraph:
    """An integer network: ``ops`` in execution order between ``inputs`` and ``outputs`` (tensor names)."""

    tensors: dict[str, TensorInfo]
    ops: list[IntOp]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.metadata.setdefault("profile", PROFILE)
        self.validate()

    def validate(self) -> None:
        """Check that every tensor is made before it is used, and that shared parameters are shared.

        Raises:
            ValueError: naming the operator and the tensor.
        """
        known = set(self.inputs)
        for op in self.ops:
            if isinstance(op, ConvOp) and not np.all(np.isfinite(op.weight_scale)):
                raise ValueError(f"operator {op.name!r} has weight scales that are not finite")
            for name in op.inputs:
                if name not in known:
                    raise ValueError(f"operator {op.name!r} reads tensor {name!r}, which nothing has made yet")
            if op.output in known:
                raise ValueError(f"operator {op.name!r} makes tensor {op.output!r} a second time")
            for name in op.inputs:
                if self.tensors[name].qparams.bits != 8:
                    raise ValueError(f"operator {op.name!r} reads {name!r}, which has 16 bits: those are outputs only")
            if self.tensors[op.output].qparams.bits != 8 and op.kind not in ("conv", "float"):
                raise ValueError(f"operator {op.name!r} ({op.kind}) cannot make 16 bits; only a convolution can")
            if op.kind in SHARING_KINDS:
                out = self.tensors[op.output].qparams
                for name in op.inputs:
                    if self.tensors[name].qparams != out:
                        raise ValueError(
                            f"operator {op.name!r} ({op.kind}) needs equal quantization of {name!r} and {op.output!r}"
                        )
            known.add(op.output)
        for name in self.outputs:
            if name not in known:
                raise ValueError(f"output {name!r} is never made")

    @property
    def islands(self) -> tuple[str, ...]:
        """Names of the operators that are kept in float."""
        return tuple(op.name for op in self.ops if isinstance(op, FloatOp))

    def refuse_islands(self, what: str) -> None:
        """Refuse a graph with float islands, for whoever needs integers alone.

        Args:
            what: what cannot be made of it, e.g. "a .tflite file".

        Raises:
            UserError: naming the islands.
        """
        if self.islands:
            shown = ", ".join(self.islands[:5]) + (
                f" and {len(self.islands) - 5} more" if len(self.islands) > 5 else ""
            )
            raise UserError(
                f"keep_float leaves {shown} in float: such a model can be evaluated, but {what} cannot be made of it; "
                "train and export with keep_float=[]"
            )

    def qparams(self, name: str) -> QuantParams:
        return self.tensors[name].qparams

    def to_state(self) -> dict[str, Any]:
        """Plain dict of builtins and torch tensors: what a weights-only checkpoint can hold."""
        import torch

        made: dict[int, torch.Tensor] = {}

        def plain(value: Any) -> Any:
            if not isinstance(value, np.ndarray):
                return value
            if id(value) not in made:  # an array that several operators share is saved once
                made[id(value)] = torch.from_numpy(np.ascontiguousarray(value))
            return made[id(value)]

        return {
            "format_version": FORMAT_VERSION,
            "tensors": [
                (t.name, t.shape, t.qparams.scale, t.qparams.zero_point, t.qparams.bits) for t in self.tensors.values()
            ],
            "ops": [{"kind": op.kind, **{f.name: plain(getattr(op, f.name)) for f in fields(op)}} for op in self.ops],
            "inputs": self.inputs,
            "outputs": self.outputs,
            "metadata": self.metadata,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> IntGraph:
        """Inverse of :meth:`to_state`.

        Raises:
            ValueError: the state is not an integer graph, or of another format version.
        """
        if not isinstance(state, dict) or "ops" not in state:
            raise ValueError("this is not an integer graph: no 'ops' in it")
        if state.get("format_version") != FORMAT_VERSION:
            raise ValueError(
                f"integer graph of format version {state.get('format_version')}; this hatdet reads {FORMAT_VERSION}"
            )
        import torch

        arrays: dict[int, NDArray[Any]] = {}

        def restored(value: Any) -> Any:
            if isinstance(value, torch.Tensor):
                return arrays.setdefault(id(value), value.numpy())
            return tuple(value) if isinstance(value, list) else value

        try:
            tensors = {
                name: TensorInfo(name, tuple(shape), QuantParams(*quantization))
                for name, shape, *quantization in state["tensors"]
            }
            ops = [
                OP_TYPES[entry["kind"]](**{k: restored(v) for k, v in entry.items() if k != "kind"})
                for entry in state["ops"]
            ]
            return cls(tensors, ops, tuple(state["inputs"]), tuple(state["outputs"]), dict(state["metadata"]))
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"this is not an integer graph that hatdet wrote ({type(error).__name__}: {error}); make it anew with "
                "tools/predict.py --stage int_infer"
            ) from error

    @property
    def weight_bytes(self) -> int:
        """Bytes of int8 weights and int32 biases; an array that several operators share counts once."""
        arrays = [array for op in self.ops if isinstance(op, ConvOp) for array in (op.weight, op.bias)]
        return sum({id(array): array.nbytes for array in arrays}.values())

    @property
    def shared_weight_bytes_saved(self) -> int:
        """Bytes of int8 weights that need not be stored, because several convolutions use one array."""
        weights = [op.weight for op in self.ops if isinstance(op, ConvOp)]
        return sum(w.nbytes for w in weights) - sum({id(w): w.nbytes for w in weights}.values())
