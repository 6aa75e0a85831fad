"""A ``.tflite`` file of int8, operator by operator: arithmetic by the referee's kernels, copies by numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hatdet.export.tflite.flatbuffer import load_schema
from tests.conformance.single_rounding.referee import Kernels, dims, floats, ints

Array = NDArray[Any]
TYPES: dict[str, Any] = {"INT8": np.int8, "INT16": np.int16, "INT32": np.int32, "INT64": np.int64}
LIMITS = {"NONE": (-np.inf, np.inf), "RELU": (0, np.inf), "RELU6": (0, 6), "RELU_N1_TO_1": (-1, 1)}


class Walk:
    """Runs a file.

    Args:
        model: its bytes. kernels: what computes.
    """

    def __init__(self, model: bytes, kernels: Kernels) -> None:
        schema = load_schema()
        self.kernels = kernels
        self.model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model, 0))
        self.graph = self.model.subgraphs[0]
        self.types = {v: k for k, v in vars(schema.TensorType).items() if isinstance(v, int)}
        self.codes = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}
        self.fused = {v: k for k, v in vars(schema.ActivationFunctionType).items() if isinstance(v, int)}
        self.same = schema.Padding.SAME

    def __call__(self, image: Array) -> dict[str, Array]:
        """Every tensor that is made of one image (1, H, W, C), by name."""
        self.values: dict[int, Array] = {int(self.graph.inputs[0]): image}
        for op in self.graph.operators:
            code = self.model.operatorCodes[op.opcodeIndex]
            name = self.codes[max(code.builtinCode, code.deprecatedBuiltinCode)]
            inputs, output = [int(i) for i in op.inputs], int(op.outputs[0])
            made = getattr(self, name.lower())(op.builtinOptions, inputs, output)
            shape = tuple(self.graph.tensors[output].shape)
            assert made.shape == shape and made.dtype == TYPES[self.types[self.graph.tensors[output].type]], name
            self.values[output] = made
        return {self.graph.tensors[i].name.decode(): v for i, v in self.values.items()}

    # ---- what a file says

    def of(self, index: int) -> Array:
        if index not in self.values:
            tensor = self.graph.tensors[index]
            data = np.asarray(self.model.buffers[tensor.buffer].data, np.uint8).tobytes()
            self.values[index] = np.frombuffer(data, TYPES[self.types[tensor.type]]).reshape(tensor.shape)
        return self.values[index]

    def q(self, index: int) -> tuple[float, int]:
        found = self.graph.tensors[index].quantization
        return float(np.float32(found.scale[0])), int(found.zeroPoint[0])

    def empty(self, index: int) -> Array:
        tensor = self.graph.tensors[index]
        return self.kernels.new(tensor.shape, TYPES[self.types[tensor.type]])

    def limits(self, activation: int, output: int) -> tuple[int, int]:
        """Codes that a fused activation leaves: float32, rounded half away from zero."""
        (scale, zero), info = self.q(output), np.iinfo(TYPES[self.types[self.graph.tensors[output].type]])
        codes = []
        for limit, end in zip(LIMITS[self.fused[activation]], (info.min, info.max), strict=True):
            if np.isinf(limit):
                codes.append(int(end))
                continue
            real = float(np.float32(limit) / np.float32(scale))
            codes.append(zero + int(np.sign(real) * np.floor(abs(real) + 0.5)))
        return max(codes[0], int(info.min)), min(codes[1], int(info.max))

    def before(self, mode: int, sizes: Any, kernel: Any, stride: Any, dilation: Any = (1, 1)) -> tuple[int, int]:
        """Rows and columns of padding in front."""
        found = []
        for size, k, s, d in zip(sizes, kernel, stride, dilation, strict=True):
            span = (k - 1) * d + 1
            count = -(-size // s) if mode == self.same else (size + s - span) // s
            found.append(max((count - 1) * s + span - size, 0) // 2)
        return found[0], found[1]

    # ---- weighted sums

    def _weighted(self, kind: int, o: Any, inputs: list[int], output: int, sizes: Any, dilation: Any) -> Array:
        x, w, b = (self.of(i) for i in inputs[:3])
        y, stride = self.empty(output), (o.strideH, o.strideW)
        padding = self.before(o.padding, sizes, w.shape[1:3], stride, dilation)
        scales = np.asarray(self.graph.tensors[inputs[1]].quantization.scale, np.float32)
        scales = np.broadcast_to(scales, (y.shape[3],)).copy()
        (sx, zx), (sy, zy) = self.q(inputs[0]), self.q(output)
        limits = self.limits(getattr(o, "fusedActivationFunction", 0), output)
        numbers = ints(*stride, *dilation, *padding, zx, zy, *limits)
        name = "weighted16" if y.dtype == np.int16 else "weighted"
        self.kernels.call(name, kind, x, dims(x), w, dims(w), b, sx, scales, sy, numbers, y, dims(y))
        return y

    def conv_2d(self, o: Any, inputs: list[int], output: int) -> Array:
        sizes, dilation = self.of(inputs[0]).shape[1:3], (o.dilationHFactor, o.dilationWFactor)
        return self._weighted(0, o, inputs, output, sizes, dilation)

    def depthwise_conv_2d(self, o: Any, inputs: list[int], output: int) -> Array:
        sizes, dilation = self.of(inputs[0]).shape[1:3], (o.dilationHFactor, o.dilationWFactor)
        return self._weighted(1, o, inputs, output, sizes, dilation)

    def transpose_conv(self, o: Any, inputs: list[int], output: int) -> Array:
        sizes = self.graph.tensors[output].shape[1:3]
        return self._weighted(2, o, [inputs[2], inputs[1], inputs[3]], output, sizes, (1, 1))

    # ---- pairs

    def _pair(self, kind: int, o: Any, inputs: list[int], output: int) -> Array:
        a, b, y = self.of(inputs[0]), self.of(inputs[1]), self.empty(output)
        scales, zeros = zip(*(self.q(i) for i in (*inputs, output)), strict=True)
        lo, hi = self.limits(o.fusedActivationFunction, output)
        numbers = floats(*scales), ints(*zeros), lo, hi, self.kernels.wide
        self.kernels.call("pair", kind, a, dims(a), b, dims(b), *numbers, y, dims(y))
        return y

    def add(self, o: Any, inputs: list[int], output: int) -> Array:
        if self.of(inputs[0]).dtype == np.int32:  # indices of a table
            return self.of(inputs[0]) + self.of(inputs[1])
        return self._pair(0, o, inputs, output)

    def sub(self, o: Any, inputs: list[int], output: int) -> Array:
        return self._pair(1, o, inputs, output)

    def mul(self, o: Any, inputs: list[int], output: int) -> Array:
        return self._pair(2, o, inputs, output)

    # ---- single codes

    def quantize(self, o: Any, inputs: list[int], output: int) -> Array:
        (x,), y, (sx, zx), (sy, zy) = map(self.of, inputs), self.empty(output), self.q(inputs[0]), self.q(output)
        name, rest = ("requantize", [zy]) if y.dtype == np.int8 else ("widen", [])
        self.kernels.call(name, x, x.size, sx, zx, sy, *rest, y)
        return y

    def leaky_relu(self, o: Any, inputs: list[int], output: int) -> Array:
        (x,), y, (sx, zx), (sy, zy) = map(self.of, inputs), self.empty(output), self.q(inputs[0]), self.q(output)
        slope = float(np.float32(o.alpha))
        self.kernels.call("leaky_relu", x, x.size, slope, sx, zx, sy, zy, self.kernels.wide, y)
        return y

    def prelu(self, o: Any, inputs: list[int], output: int) -> Array:
        x, alpha, y = self.of(inputs[0]), self.of(inputs[1]), self.empty(output)
        scales, zeros = zip(*(self.q(i) for i in (*inputs, output)), strict=True)
        self.kernels.call("prelu", x, dims(x), alpha, dims(alpha), floats(*scales), ints(*zeros), self.kernels.wide, y)
        return y

    def _gate(self, kind: int, inputs: list[int], output: int) -> Array:
        x, y, (scale, zero) = self.of(inputs[0]), self.empty(output), self.q(inputs[0])
        self.kernels.call("gate", kind, x, x.size, scale, zero, y)
        return y

    def logistic(self, o: Any, inputs: list[int], output: int) -> Array:
        return self._gate(0, inputs, output)

    def tanh(self, o: Any, inputs: list[int], output: int) -> Array:
        return self._gate(1, inputs, output)

    def hard_swish(self, o: Any, inputs: list[int], output: int) -> Array:
        (x,), y, (sx, zx), (sy, zy) = map(self.of, inputs), self.empty(output), self.q(inputs[0]), self.q(output)
        self.kernels.call("hardswish", x, x.size, sx, zx, sy, zy, self.kernels.wide, y)
        return y

    # ---- windows and maps

    def _pool(self, kind: int, o: Any, inputs: list[int], output: int) -> Array:
        x, y, stride = self.of(inputs[0]), self.empty(output), (o.strideH, o.strideW)
        window = o.filterHeight, o.filterWidth
        padding = self.before(o.padding, x.shape[1:3], window, stride)
        limits = self.limits(o.fusedActivationFunction, output)
        self.kernels.call("pool", kind, x, dims(x), ints(*stride, *window, *padding, *limits), y, dims(y))
        return y

    def average_pool_2d(self, o: Any, inputs: list[int], output: int) -> Array:
        return self._pool(0, o, inputs, output)

    def max_pool_2d(self, o: Any, inputs: list[int], output: int) -> Array:
        return self._pool(1, o, inputs, output)

    def resize_bilinear(self, o: Any, inputs: list[int], output: int) -> Array:
        x, y = self.of(inputs[0]), self.empty(output)
        self.kernels.call("bilinear", x, dims(x), int(o.alignCorners), int(o.halfPixelCenters), y, dims(y))
        return y

    def resize_nearest_neighbor(self, o: Any, inputs: list[int], output: int) -> Array:
        x, shape = self.of(inputs[0]), self.graph.tensors[output].shape
        half = 0.5 if o.halfPixelCenters else 0.0
        rows, columns = ((np.arange(n) + half) * size // n for n, size in zip(shape[1:3], x.shape[1:3], strict=True))
        return x[:, rows.astype(int)][:, :, columns.astype(int)]

    # ---- copies

    def pad(self, o: Any, inputs: list[int], output: int) -> Array:
        return np.pad(self.of(inputs[0]), self.of(inputs[1]), constant_values=self.q(output)[1])

    def padv2(self, o: Any, inputs: list[int], output: int) -> Array:
        return np.pad(self.of(inputs[0]), self.of(inputs[1]), constant_values=int(self.of(inputs[2]).item()))

    def concatenation(self, o: Any, inputs: list[int], output: int) -> Array:
        return np.concatenate([self.of(i) for i in inputs], o.axis)

    def reshape(self, o: Any, inputs: list[int], output: int) -> Array:
        return self.of(inputs[0]).reshape(self.graph.tensors[output].shape)

    def transpose(self, o: Any, inputs: list[int], output: int) -> Array:
        return self.of(inputs[0]).transpose(self.of(inputs[1]))

    def slice(self, o: Any, inputs: list[int], output: int) -> Array:
        parts = zip(self.of(inputs[1]), self.graph.tensors[output].shape, strict=True)
        return self.of(inputs[0])[tuple(slice(b, b + n) for b, n in parts)]

    def strided_slice(self, o: Any, inputs: list[int], output: int) -> Array:
        return self.of(inputs[0])[tuple(slice(*part) for part in zip(*map(self.of, inputs[1:4]), strict=True))]

    def maximum(self, o: Any, inputs: list[int], output: int) -> Array:
        return np.maximum(self.of(inputs[0]), self.of(inputs[1]))

    def minimum(self, o: Any, inputs: list[int], output: int) -> Array:
        return np.minimum(self.of(inputs[0]), self.of(inputs[1]))

    def cast(self, o: Any, inputs: list[int], output: int) -> Array:
        return self.of(inputs[0]).astype(TYPES[self.types[self.graph.tensors[output].type]])

    def gather(self, o: Any, inputs: list[int], output: int) -> Array:
        return self.of(inputs[0])[self.of(inputs[1])]


