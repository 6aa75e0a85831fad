"""Assembly of a TensorFlow Lite flatbuffer: shared buffers, quantized tensors, operator codes, signature.

Knows the file format and no graph; :mod:`hatdet.export.tflite.int8` says what goes in. The schema's object API comes
from the package ``ai-edge-litert``.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hatdet.export.seal import BLANK, NAME, SEALED, seal
from hatdet.export.tflite.int4 import pack
from hatdet.utils.errors import UserError

IDENTIFIER = b"TFL3"
SCHEMA_VERSION = 3
BUFFER_ALIGNMENT = 16
"""The schema promises data aligned to 16 bytes, and kernels with vector loads rely on it; the packer would not."""

OPERATOR_VERSIONS = {
    "ADD": 2, "AVERAGE_POOL_2D": 2, "CAST": 1, "CONCATENATION": 2, "CONV_2D": 3, "DEPTHWISE_CONV_2D": 3,
    "DEPTH_TO_SPACE": 2, "ELU": 1, "FULLY_CONNECTED": 4, "GATHER": 2, "GELU": 2, "HARD_SWISH": 1, "LEAKY_RELU": 1,
    "LOGISTIC": 2, "MAXIMUM": 2, "MAX_POOL_2D": 2, "MEAN": 2, "MINIMUM": 2, "MUL": 2, "PAD": 2, "PADV2": 2,
    "PRELU": 1, "QUANTIZE": 2, "RELU": 2, "RELU6": 2, "RESHAPE": 1, "RESIZE_BILINEAR": 2,
    "RESIZE_NEAREST_NEIGHBOR": 2, "SLICE": 2, "SPACE_TO_DEPTH": 2, "SPLIT": 2, "STRIDED_SLICE": 2, "SUB": 2,
    "TANH": 2, "TRANSPOSE": 2, "TRANSPOSE_CONV": 3,
}  # fmt: skip
"""First version of each operator that takes int8 tensors (of TRANSPOSE_CONV with a bias; grouped convolutions and
half-pixel centres came later)."""
GROUPED_CONV_VERSION = 6
INT16_VERSIONS = {"CONV_2D": 4, "DEPTHWISE_CONV_2D": 5}
"""First version with int16 activations, int8 weights and int64 biases."""
HALF_PIXEL_VERSION = 3


def load_schema() -> Any:
    """The generated schema module.

    Raises:
        UserError: ai-edge-litert or flatbuffers is not installed.
    """
    try:
        return importlib.import_module("ai_edge_litert.schema_py_generated")
    except ImportError as error:
        raise UserError(
            f"reading and writing .tflite files needs the packages ai-edge-litert and flatbuffers ({error}); "
            "install them with: pip install 'hatdet[export]'"
        ) from error


class FlatbufferModel:
    """One subgraph being assembled. Tensors and operators are numbered in the order of the calls."""

    def __init__(self, description: str) -> None:
        self.schema = load_schema()
        self.description = description
        self.tensors: list[Any] = []
        self.operators: list[Any] = []
        self.codes: list[Any] = []
        self.metadata: list[Any] = []
        self._code_index: dict[tuple[str, int], int] = {}
        self._buffers: list[bytes] = [b""]  # buffer 0 is empty by convention: tensors without data refer to it
        self._buffer_index: dict[bytes, int] = {}
        self._constants: dict[tuple[Any, ...], int] = {}

    def buffer(self, data: bytes) -> int:
        """Index of a buffer holding ``data``; identical contents share one."""
        if data not in self._buffer_index:
            self._buffer_index[data] = len(self._buffers)
            self._buffers.append(data)
        return self._buffer_index[data]

    def tensor(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: str,
        scale: NDArray[np.float32] | None = None,
        zero_point: int = 0,
        dimension: int = 0,
        data: NDArray[Any] | None = None,
    ) -> int:
        """Add a tensor; ``scale`` of one value is per tensor, of several per channel along ``dimension``."""
        t = self.schema.TensorT()
        t.name, t.shape, t.type = name, np.asarray(shape, dtype=np.int32), getattr(self.schema.TensorType, dtype)
        t.hasRank = True
        if data is not None and dtype == "INT4":
            data = pack(data)
        t.buffer = 0 if data is None else self.buffer(np.ascontiguousarray(data).tobytes())
        if scale is not None:
            q = self.schema.QuantizationParametersT()
            q.scale = np.asarray(scale, dtype=np.float32)
            q.zeroPoint = np.full(len(q.scale), zero_point, dtype=np.int64)
            q.quantizedDimension = dimension
            t.quantization = q
        self.tensors.append(t)
        return len(self.tensors) - 1

    def constant(
        self,
        name: str,
        data: NDArray[Any],
        dtype: str,
        scale: NDArray[np.float32] | None = None,
        zero_point: int = 0,
        dimension: int = 0,
    ) -> int:
        """Add a constant tensor, or find the one that already has these bytes, shape and quantization."""
        data = np.ascontiguousarray(data)
        scales = None if scale is None else np.asarray(scale, dtype=np.float32).tobytes()
        key = (data.tobytes(), data.shape, dtype, scales, zero_point, dimension)
        if key not in self._constants:
            self._constants[key] = self.tensor(name, data.shape, dtype, scale, zero_point, dimension, data)
        return self._constants[key]

    def operator(self, code: str, inputs: list[int], output: int, options: Any, version: int | None = None) -> None:
        """Append an operator; ``options`` is the schema's options object, whose class names its type, or None."""
        version = OPERATOR_VERSIONS[code] if version is None else version
        op = self.schema.OperatorT()
        op.opcodeIndex = self._operator_code(code, version)
        op.inputs, op.outputs = np.asarray(inputs, dtype=np.int32), np.asarray([output], dtype=np.int32)
        if options is not None:
            op.builtinOptionsType = getattr(self.schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
            op.builtinOptions = options
        self.operators.append(op)

    def add_metadata(self, name: str, text: str) -> None:
        """Attach a named text, readable by :func:`hatdet.export.tflite.int8.read_metadata`."""
        entry = self.schema.MetadataT()
        entry.name, entry.buffer = name, self.buffer(text.encode("utf-8"))
        self.metadata.append(entry)

    def finish(self, inputs: dict[str, int], outputs: dict[str, int]) -> bytes:
        """The bytes of the file: one subgraph ``main``, and the signature ``serving_default`` with these names."""
        import flatbuffers

        s = self.schema
        self.add_metadata(NAME, BLANK)
        graph = s.SubGraphT()
        graph.name, graph.tensors, graph.operators = "main", self.tensors, self.operators
        graph.inputs = np.asarray(list(inputs.values()), dtype=np.int32)
        graph.outputs = np.asarray(list(outputs.values()), dtype=np.int32)
        signature = s.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = "serving_default", 0
        signature.inputs = [self._tensor_map(n, i) for n, i in inputs.items()]
        signature.outputs = [self._tensor_map(n, i) for n, i in outputs.items()]
        model = s.ModelT()
        model.version, model.description = SCHEMA_VERSION, f"{self.description}, {SEALED}"
        model.operatorCodes, model.subgraphs = self.codes, [graph]
        model.buffers = [_AlignedBuffer(s, data) for data in self._buffers]
        model.metadata, model.signatureDefs = self.metadata, [signature]
        builder = flatbuffers.Builder(1024 + sum(len(b) + 64 for b in self._buffers))
        builder.Finish(model.Pack(builder), IDENTIFIER)
        return seal(bytes(builder.Output()))

    def _operator_code(self, code: str, version: int) -> int:
        key = (code, version)
        if key not in self._code_index:
            entry = self.schema.OperatorCodeT()
            entry.builtinCode = getattr(self.schema.BuiltinOperator, code)
            entry.deprecatedBuiltinCode = min(entry.builtinCode, 127)
            entry.version = version
            self._code_index[key] = len(self.codes)
            self.codes.append(entry)
        return self._code_index[key]

    def _tensor_map(self, name: str, index: int) -> Any:
        entry = self.schema.TensorMapT()
        entry.name, entry.tensorIndex = name, index
        return entry


class _AlignedBuffer:
    """A buffer that packs itself with its data aligned to 16 bytes; stands in for the schema's ``BufferT``."""

    def __init__(self, schema: Any, data: bytes) -> None:
        self.schema = schema
        self.data = data

    def Pack(self, builder: Any) -> int:
        vector = 0
        if self.data:
            builder.StartVector(1, len(self.data), BUFFER_ALIGNMENT)
            start = builder.Head() - len(self.data)
            builder.head = start
            builder.Bytes[start : start + len(self.data)] = self.data
            vector = builder.EndVector()
        self.schema.BufferStart(builder)
        if self.data:
            self.schema.BufferAddData(builder, vector)
        return int(self.schema.BufferEnd(builder))
