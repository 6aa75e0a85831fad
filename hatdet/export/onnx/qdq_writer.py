"""The ONNX file in QDQ form that is being written. Scales and zero points are 0-d tensors: onnxruntime does not fuse
those of shape (1,)."""

from __future__ import annotations

import numpy as np

from hatdet.export.onnx.integer_writer import IntegerWriter
from hatdet.integer.operators.base import Operator
from hatdet.integer.tensors import QuantParams


class QdqWriter(IntegerWriter):
    """One graph on its way into a file."""

    def params(self, name: str, q: QuantParams) -> list[str]:
        """Scale and zero point of what is called ``name`` in the file."""
        scale = self.out.constant(f"{name}/scale", np.array(q.scale, np.float32))
        return [scale, self.out.constant(f"{name}/zero_point", np.array(q.zero_point + 128, np.uint8))]

    def real(self, tensor: str) -> str:
        """The dequantized tensor, for one reader: fusion wants a DequantizeLinear of its own for each."""
        name = self.names[tensor]
        return self.out.node("DequantizeLinear", [name, *self.params(name, self.qparams(tensor))], f"{name}/real")

    def reals(self, op: Operator) -> list[str]:
        """The operator's inputs, dequantized."""
        return [self.real(name) for name in op.inputs]

    def quantize(self, real: str, op: Operator) -> None:
        """Make what ``op`` makes of real values, clamped to the operator's limits where it has such."""
        name = self.names[op.output]
        inputs = [real, *self.params(name, self.qparams(op.output))]
        if (getattr(op, "lo", -128), getattr(op, "hi", 127)) == (-128, 127):
            self.emit("QuantizeLinear", inputs, op)
        else:
            self.clip(self.out.node("QuantizeLinear", inputs, f"{name}/codes"), op)
