"""Whether the numbers of a ``.tflite`` file fit each other: indices, shapes, sizes of constants, quantization."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import numpy as np

from hatdet.export.seal import damaged, is_whole
from hatdet.export.tflite.flatbuffer import SCHEMA_VERSION, load_schema
from hatdet.export.tflite.flatbuffer_check import check_structure
from hatdet.integer.operators.windows.weighted import packed_bytes

BYTES = {"INT8": 1, "UINT8": 1, "BOOL": 1, "INT16": 2, "FLOAT16": 2, "INT32": 4, "FLOAT32": 4, "INT64": 8}
"""Of a number of that type; of INT4 two share a byte."""
_POSITIVE = ("strideH", "strideW", "dilationHFactor", "dilationWFactor", "filterHeight", "filterWidth")
_LARGEST = 2**31 - 1
OUTPUTS: dict[str, Callable[[int, list[int]], int]] = {
    "CONV_2D": lambda channels, weight: weight[0] if channels % weight[3] == 0 else 0,
    "DEPTHWISE_CONV_2D": lambda channels, weight: weight[3] if weight[0] == 1 and weight[3] % channels == 0 else 0,
}
"""Output channels of a convolution by its inputs and the weight's shape; 0 where these do not fit."""


def stored_bytes(dtype: str, count: int, unknown: int = 0) -> int:
    """Bytes of so many numbers of a type; ``unknown``: of one, where it is not known."""
    return packed_bytes(count, 4) if dtype == "INT4" else count * BYTES.get(dtype, unknown)


@lru_cache(maxsize=1)  # all readers of a file ask: metadata, layout, each runtime
def check_file(data: bytes) -> bool:
    """True: a ``.tflite`` is exactly as it was exported. False: it has no seal, and is sound as far as can be seen.

    Raises:
        UserError: it is damaged, or no TensorFlow Lite model. ai-edge-litert is not installed.
    """
    if data[4:8] == b"TFL3" and is_whole(data):
        return True
    check_structure(data)
    try:
        _Checks(data).run()
    except (IndexError, TypeError, AttributeError, UnicodeDecodeError, OverflowError) as error:
        raise damaged(f"its tables do not fit together: {error}") from error
    return False


class _Checks:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.schema = load_schema()
        self.root = self.schema.Model.GetRootAsModel(data, 0)
        self.types = {v: k for k, v in vars(self.schema.TensorType).items() if isinstance(v, int)}
        self.codes = {v: k for k, v in vars(self.schema.BuiltinOperator).items() if isinstance(v, int)}

    def run(self) -> None:
        root = self.root
        if root.Version() != SCHEMA_VERSION:
            raise damaged(f"format version {root.Version()}, not {SCHEMA_VERSION}")
        if not root.SubgraphsLength() or not root.BuffersLength():
            raise damaged("it has no graph or no buffers")
        for i in range(root.BuffersLength()):
            buffer = root.Buffers(i)
            if buffer.Offset() + buffer.Size() > len(self.data):
                raise damaged(f"buffer {i} lies outside of the file")
        for i in range(root.MetadataLength()):
            _index("metadata", [root.Metadata(i).Buffer()], root.BuffersLength())
            root.Metadata(i).Name().decode()
        for i in range(root.SubgraphsLength()):
            self.graph(root.Subgraphs(i))
        for i in range(root.SignatureDefsLength()):
            self.signature(root.SignatureDefs(i))

    def signature(self, signature: Any) -> None:
        _index("signature", [signature.SubgraphIndex()], self.root.SubgraphsLength())
        count = self.root.Subgraphs(signature.SubgraphIndex()).TensorsLength()
        maps = [signature.Inputs(i) for i in range(signature.InputsLength())]
        maps += [signature.Outputs(i) for i in range(signature.OutputsLength())]
        _index("signature", [entry.TensorIndex() for entry in maps], count)

    def graph(self, graph: Any) -> None:
        tensors = [graph.Tensors(i) for i in range(graph.TensorsLength())]
        for tensor in tensors:
            self.tensor(tensor)
        inputs = [graph.Inputs(i) for i in range(graph.InputsLength())]
        outputs = [graph.Outputs(i) for i in range(graph.OutputsLength())]
        if not inputs or not outputs:
            raise damaged("the graph has no input or no output")
        _index("the graph's ends", [*inputs, *outputs], len(tensors))
        known = {i for i, t in enumerate(tensors) if self.root.Buffers(t.Buffer()).DataLength()} | set(inputs)
        for i in range(graph.OperatorsLength()):
            known |= self.operator(i, graph.Operators(i), tensors, known)
        if set(outputs) - known:
            raise damaged("an output is made by no operator")

    def tensor(self, tensor: Any) -> None:
        name = (tensor.Name() or b"").decode()
        _index(f"tensor {name!r}", [tensor.Buffer()], self.root.BuffersLength())
        shape = [int(tensor.Shape(i)) for i in range(tensor.ShapeLength())]
        kind = self.types.get(tensor.Type())
        if kind is None or min(shape, default=1) < 1 or math.prod(shape) > _LARGEST:
            raise damaged(f"tensor {name!r} has the type {tensor.Type()} and the shape {shape}")
        size, stored = stored_bytes(kind, math.prod(shape)), self.root.Buffers(tensor.Buffer()).DataLength()
        if stored and size and stored != size:
            raise damaged(f"tensor {name!r} of shape {shape} has {stored} bytes, not {size}")
        self.quantization(name, shape, tensor.Quantization())

    def quantization(self, name: str, shape: list[int], values: Any) -> None:
        if values is None or not values.ScaleLength():
            return
        scales = np.asarray(values.ScaleAsNumpy())
        dimension = values.QuantizedDimension()
        fits = len(scales) == 1 or (0 <= dimension < len(shape) and len(scales) == shape[dimension])
        if not fits or values.ZeroPointLength() not in (0, len(scales)):
            raise damaged(f"tensor {name!r} of shape {shape} has {len(scales)} scales")
        if not (np.isfinite(scales) & (scales > 0)).all():
            raise damaged(f"tensor {name!r} has a scale that is not positive")
        zeros = np.asarray(values.ZeroPointAsNumpy()) if values.ZeroPointLength() else np.zeros(1)
        if np.abs(zeros.astype(np.float64)).max() > 2**15:
            raise damaged(f"tensor {name!r} has a zero point beyond its codes")

    def operator(self, number: int, op: Any, tensors: list[Any], known: set[int]) -> set[int]:
        """Check an operator; gives the tensors that it makes."""
        what = f"operator {number}"
        _index(what, [op.OpcodeIndex()], self.root.OperatorCodesLength())
        inputs = [int(op.Inputs(i)) for i in range(op.InputsLength())]
        outputs = [int(op.Outputs(i)) for i in range(op.OutputsLength())]
        _index(what, outputs, len(tensors))
        _index(what, [i for i in inputs if i != -1], len(tensors))
        if {i for i in inputs if i != -1} - known:
            raise damaged(f"{what} reads a tensor that nothing makes before")
        settings = self.settings(op)
        if any(not 1 <= settings.get(key, 1) <= 2**16 for key in _POSITIVE):
            raise damaged(f"{what} has a stride, dilation or window below 1")
        entry = self.root.OperatorCodes(op.OpcodeIndex())
        code = self.codes.get(max(entry.BuiltinCode(), entry.DeprecatedBuiltinCode()), "")
        if code in OUTPUTS:
            self.convolution(what, code, [list(map(int, tensors[i].ShapeAsNumpy())) for i in inputs if i != -1])
        return set(outputs)

    def settings(self, op: Any) -> dict[str, Any]:
        table = op.BuiltinOptions()
        if table is None:
            return {}
        options = self.schema.BuiltinOptionsCreator(op.BuiltinOptionsType(), table)
        return {} if options is None else dict(vars(options))

    def convolution(self, what: str, code: str, shapes: list[list[int]]) -> None:
        if len(shapes) < 2 or len(shapes[0]) != 4 or len(shapes[1]) != 4:
            raise damaged(f"{what} is a convolution of {shapes}")
        channels, weight = shapes[0][3], shapes[1]
        outputs = OUTPUTS[code](channels, weight)
        bias = shapes[2] if len(shapes) > 2 else [outputs]
        if not outputs or bias != [outputs]:
            raise damaged(f"{what}: weights {weight} and bias {bias} do not fit {channels} channels")


def _index(what: str, numbers: Iterable[int], count: int) -> None:
    for number in numbers:
        if not 0 <= number < count:
            raise damaged(f"{what} refers to number {number} of {count}")
