"""The integer model as plain data: int8 tensors, the operators between them, and their exact parameters.

An :class:`IntGraph` is what QAT2Int produces and what every way out of the toolbox reads: the torch executor, the
``.tflite`` writer, the parity check. It holds no torch module and no float weight. Layout of shapes: (C, H, W), one
image.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hatdet.integer.arithmetic import PROFILE
from hatdet.integer.operators.base import Operator
from hatdet.integer.operators.island import FloatOp
from hatdet.integer.operators.table import OP_TYPES
from hatdet.integer.profile import Profile
from hatdet.integer.profiles.table import profile_named
from hatdet.integer.tensors import QuantParams, TensorInfo
from hatdet.utils.errors import UserError

FORMAT_VERSION = 1
_fields: Any = fields


def _said(op: Operator) -> list[str]:
    """The fields that are saved. One that came later is left out where it says what operators did without it, so that a
    graph which needs none is the same as ever."""
    own = [f for f in _fields(op) if f.default in (MISSING, None) or getattr(op, f.name) != f.default]
    return [f.name for f in own]


@dataclass
class IntGraph:
    """An integer network: ``ops`` in execution order between ``inputs`` and ``outputs`` (tensor names)."""

    tensors: dict[str, TensorInfo]
    ops: list[Operator]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.metadata.setdefault("profile", PROFILE)
        self.validate()

    def validate(self) -> None:
        """Check that every tensor is made before it is used, that shared parameters are shared, and that kernels fit
        their maps (:meth:`~hatdet.integer.operators.base.Operator.check`).

        Raises:
            ValueError: naming the operator and the tensor.
        """
        known = set(self.inputs)
        for op in self.ops:
            for name in op.inputs:
                if name not in known:
                    raise ValueError(f"operator {op.name!r} reads tensor {name!r}, which nothing has made yet")
            if op.output in known:
                raise ValueError(f"operator {op.name!r} makes tensor {op.output!r} a second time")
            for name in op.inputs:
                if self.tensors[name].qparams.bits != 8:
                    raise ValueError(f"operator {op.name!r} reads {name!r}, which has 16 bits: those are outputs only")
            if self.tensors[op.output].qparams.bits != 8 and not op.wide_output:
                raise ValueError(f"operator {op.name!r} ({op.kind}) cannot make 16 bits; only a convolution can")
            if op.shares_scale:
                out = self.tensors[op.output].qparams
                for name in op.inputs:
                    if self.tensors[name].qparams != out:
                        raise ValueError(
                            f"operator {op.name!r} ({op.kind}) needs equal quantization of {name!r} and {op.output!r}"
                        )
            op.check([self.tensors[name].shape for name in op.inputs])
            known.add(op.output)
        for name in self.outputs:
            if name not in known:
                raise ValueError(f"output {name!r} is never made")

    @property
    def profile(self) -> Profile:
        """The arithmetic that the graph is made for.

        Raises:
            UserError: this hatdet has none of that name.
        """
        return profile_named(self.metadata["profile"])

    @property
    def second(self) -> Profile | None:
        """A second arithmetic whose codes the scales are to give too, wherever they can; None: no other.

        Raises:
            UserError: this hatdet has none of that name.
        """
        name = self.metadata.get("second_profile")
        return profile_named(name) if name is not None else None

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
            "ops": [{"kind": op.kind, **{name: plain(getattr(op, name)) for name in _said(op)}} for op in self.ops],
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
    def macs(self) -> int:
        """Multiply-accumulates for one image."""
        return sum(op.macs(self.tensors[op.output].shape) for op in self.ops)

    @property
    def weight_bytes(self) -> int:
        """Bytes of weights (those of four bits packed) and int32 biases; an array that several operators share counts
        once."""
        sizes = [(id(array), size) for op in self.ops for array, size in zip(op.stored, op.stored_bytes, strict=True)]
        return sum(dict(sizes).values())

    @property
    def shared_weight_bytes_saved(self) -> int:
        """Bytes of weights that need not be stored, because several convolutions use one array."""
        weights = [(id(op.stored[0]), op.stored_bytes[0]) for op in self.ops if op.stored]
        return sum(size for _, size in weights) - sum(dict(weights).values())
