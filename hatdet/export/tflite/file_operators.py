"""What stands in a ``.tflite`` file, read back: operators with their shapes, settings, MACs and module paths.

The limits of the targets and the performance report look at the file, because the file is what a target is given.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hatdet.export.metadata import file_names
from hatdet.export.tflite.consistency import check_file, stored_bytes
from hatdet.export.tflite.flatbuffer import load_schema
from hatdet.integer.graph import IntGraph

Pair = tuple[int, int]


@dataclass(frozen=True)
class FileTensor:
    """A tensor of the file. ``shape`` as stored (NHWC for activations); ``buffer`` is 0 where it has no data."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    buffer: int
    scales: int  # how many: 0 without quantization, 1 for the tensor, more for its channels

    @property
    def constant(self) -> bool:
        return self.buffer != 0

    @property
    def bytes(self) -> int:
        return stored_bytes(self.dtype, math.prod(self.shape), 4)


@dataclass(frozen=True)
class FileOperator:
    """An operator of the file.

    Attributes:
        code: TensorFlow Lite's name, e.g. ``CONV_2D``; a custom operator's own name.
        name: the tensor that it makes. path: the module that it comes from, as far as that is known.
        sources: codes of the operators that make its inputs, in their order ("" for the model's input and constants).
        settings: the file's options, e.g. ``strideH``, ``padding`` (``SAME`` or ``VALID``).
    """

    code: str
    name: str
    path: str
    inputs: tuple[FileTensor, ...]
    outputs: tuple[FileTensor, ...]
    sources: tuple[str, ...]
    settings: Mapping[str, Any]

    @property
    def stride(self) -> Pair:
        return int(self.settings.get("strideH", 1)), int(self.settings.get("strideW", 1))

    @property
    def dilation(self) -> Pair:
        return int(self.settings.get("dilationHFactor", 1)), int(self.settings.get("dilationWFactor", 1))

    @property
    def padding(self) -> str:
        """``SAME``, ``VALID`` or "" where the operator has none."""
        return str(self.settings.get("padding", ""))

    @property
    def activation(self) -> str:
        """The fused activation, e.g. ``RELU6``; "" for none."""
        name = str(self.settings.get("fusedActivationFunction", "NONE"))
        return "" if name == "NONE" else name

    @property
    def kernel(self) -> Pair:
        """(height, width) of a convolution's or a pool's window; (1, 1) for others."""
        if self.weighted:
            return self.weight.shape[1], self.weight.shape[2]
        return int(self.settings.get("filterHeight", 1)), int(self.settings.get("filterWidth", 1))

    @property
    def weighted(self) -> bool:
        """Whether it is a convolution."""
        return self.code in MACS

    @property
    def weight(self) -> FileTensor:
        """A convolution's weights: (O, kh, kw, I / groups), depthwise (1, kh, kw, O)."""
        return self.inputs[1]

    @property
    def groups(self) -> int:
        """Groups of a CONV_2D; 1 for other operators."""
        return self.inputs[0].shape[3] // self.weight.shape[3] if self.code == "CONV_2D" else 1

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image; only convolutions have any."""
        return MACS[self.code](self) if self.weighted else 0

    @property
    def constant_bytes(self) -> int:
        """Bytes of the constants that it reads (weights, biases)."""
        return sum(tensor.bytes for tensor in self.inputs if tensor.constant)


MACS: dict[str, Callable[[FileOperator], int]] = {
    "CONV_2D": lambda op: math.prod(op.outputs[0].shape) * math.prod(op.weight.shape[1:]),
    "DEPTHWISE_CONV_2D": lambda op: math.prod(op.outputs[0].shape) * math.prod(op.kernel),
    "TRANSPOSE_CONV": lambda op: math.prod(op.inputs[2].shape[1:3]) * math.prod(op.weight.shape),
}
"""Multiply-accumulates of the operators with weights, for one image."""


@dataclass(frozen=True)
class FileModel:
    """The one subgraph of a file; operators in execution order."""

    operators: tuple[FileOperator, ...]
    inputs: tuple[FileTensor, ...]
    outputs: tuple[FileTensor, ...]

    @property
    def macs(self) -> int:
        return sum(op.macs for op in self.operators)

    @property
    def constant_bytes(self) -> int:
        """Bytes of all constants; data that several operators read counts once."""
        return sum({t.buffer: t.bytes for op in self.operators for t in op.inputs if t.constant}.values())

    def counts(self) -> dict[str, int]:
        """How often each operator occurs, most frequent first."""
        found: dict[str, int] = {}
        for op in self.operators:
            found[op.code] = found.get(op.code, 0) + 1
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))

    def peak_activation(self) -> tuple[int, str]:
        """(bytes, path): the most that live activations need at once, in file order, and the operator at which.

        A tensor lives from the operator that makes it to the last that reads it, the model's inputs from the
        beginning, its outputs to the end. No operator works in place: an upper bound for a good memory planner.
        """
        last = len(self.operators) - 1
        lives = {tensor.name: [0, 0, tensor.bytes] for tensor in self.inputs}
        for i, op in enumerate(self.operators):
            for tensor in op.inputs:
                if not tensor.constant and tensor.name in lives:
                    lives[tensor.name][1] = i
            for tensor in op.outputs:
                lives[tensor.name] = [i, i, tensor.bytes]
        for tensor in self.outputs:
            if tensor.name in lives:
                lives[tensor.name][1] = last
        sizes = [sum(size for begin, end, size in lives.values() if begin <= i <= end) for i in range(last + 1)]
        if not sizes:
            return 0, ""
        at = max(range(len(sizes)), key=sizes.__getitem__)
        return sizes[at], self.operators[at].path


def module_names(paths: Sequence[str]) -> dict[str, str]:
    """``backbone_stem_0_conv`` -> ``backbone.stem.0.conv``: tensors of the file are named after the modules."""
    return {path.replace(".", "_"): path for path in paths if path}


def graph_modules(graph: IntGraph) -> dict[str, str]:
    """The same from a graph: the name in the file of what an operator makes -> the operator's own name."""
    names = file_names(graph)
    return {names[op.output]: op.name for op in graph.ops if op.name != names[op.output]}


def read_file(data: bytes, modules: Mapping[str, str] | None = None) -> FileModel:
    """Read the operators of a ``.tflite`` model.

    Args:
        modules: what :func:`module_names` or :func:`graph_modules` gives: the modules of operators without weights.

    Raises:
        UserError: not a TensorFlow Lite model, or a damaged one.
    """
    check_file(data)
    return _Reader(data, modules or {}).read()


class _Reader:
    def __init__(self, data: bytes, modules: Mapping[str, str]) -> None:
        self.schema = load_schema()
        self.root = self.schema.Model.GetRootAsModel(data, 0)
        self.graph = self.root.Subgraphs(0)
        self.modules = modules
        self.types = _names(self.schema.TensorType)
        self.codes = _names(self.schema.BuiltinOperator)
        self.enums = {
            "padding": _names(self.schema.Padding),
            "fusedActivationFunction": _names(self.schema.ActivationFunctionType),
        }
        self.tensors = [self._tensor(i) for i in range(self.graph.TensorsLength())]

    def read(self) -> FileModel:
        operators: list[FileOperator] = []
        makers: dict[str, FileOperator] = {}
        for i in range(self.graph.OperatorsLength()):
            op = self._operator(self.graph.Operators(i), makers)
            operators.append(op)
            makers.update((tensor.name, op) for tensor in op.outputs)
        operators = self._placed(operators)
        ends = ([self.graph.Inputs(i) for i in range(self.graph.InputsLength())],
                [self.graph.Outputs(i) for i in range(self.graph.OutputsLength())])  # fmt: skip
        inputs, outputs = (tuple(self.tensors[i] for i in numbers) for numbers in ends)
        return FileModel(tuple(operators), inputs, outputs)

    def _tensor(self, index: int) -> FileTensor:
        tensor = self.graph.Tensors(index)
        quantization = tensor.Quantization()
        shape = tuple(int(tensor.Shape(i)) for i in range(tensor.ShapeLength()))
        buffer = tensor.Buffer() if self.root.Buffers(tensor.Buffer()).DataLength() else 0
        scales = quantization.ScaleLength() if quantization is not None else 0
        return FileTensor(_text(tensor.Name()), shape, self.types.get(tensor.Type(), "?"), buffer, scales)

    def _operator(self, raw: Any, makers: Mapping[str, FileOperator]) -> FileOperator:
        entry = self.root.OperatorCodes(raw.OpcodeIndex())
        number = max(entry.BuiltinCode(), entry.DeprecatedBuiltinCode())
        code = _text(entry.CustomCode()) if entry.CustomCode() else self.codes.get(number, str(number))
        inputs = tuple(self.tensors[raw.Inputs(i)] for i in range(raw.InputsLength()) if raw.Inputs(i) >= 0)
        outputs = tuple(self.tensors[raw.Outputs(i)] for i in range(raw.OutputsLength()))
        name = outputs[0].name if outputs else ""
        sources = tuple(makers[t.name].code if t.name in makers else "" for t in inputs)
        settings = self._settings(raw)
        return FileOperator(code, name, self._path(code, name, inputs), inputs, outputs, sources, settings)

    def _settings(self, raw: Any) -> dict[str, Any]:
        table = raw.BuiltinOptions()
        options = self.schema.BuiltinOptionsCreator(raw.BuiltinOptionsType(), table) if table is not None else None
        found = dict(vars(options)) if options is not None else {}
        return {key: self.enums[key].get(value, value) if key in self.enums else value for key, value in found.items()}

    def _path(self, code: str, name: str, inputs: Sequence[FileTensor]) -> str:
        """The module's path; a convolution's weights and bias are named after it, except where constants are shared."""
        if name in self.modules:
            return self.modules[name]
        if code in MACS:
            named = [t.name.rpartition("/") for t in reversed(inputs[1:]) if t.constant]
            candidates = [head for head, _, tail in named if head and tail in ("weight", "bias")]
            exact = [path for path in candidates if path.replace(".", "_") == name]
            return next(iter([*exact, *candidates]), name)
        return name

    def _placed(self, operators: list[FileOperator]) -> list[FileOperator]:
        """Say of operators without a module which is near: a padding belongs to its reader, others follow one."""
        readers = {t.name: op.path for op in reversed(operators) for t in op.inputs if not t.constant}
        anchors: dict[str, str] = {}
        placed = []
        for op in operators:
            before = next((anchors[t.name] for t in op.inputs if t.name in anchors), "")
            path = op.path
            if path != op.name:
                before = path
            elif op.code in ("PAD", "PADV2"):
                path = readers.get(op.name, path)
            elif before:
                path = f"{op.name} (after {before})"
            anchors.update((t.name, before) for t in op.outputs if before)
            placed.append(replace(op, path=path))
        return placed


def _names(enum: Any) -> dict[int, str]:
    return {value: key for key, value in vars(enum).items() if isinstance(value, int)}


def _text(value: bytes | None) -> str:
    return value.decode("utf-8") if value else ""
