"""The formula of the transposed convolution in plain integers, for the literal evaluator."""

from __future__ import annotations

import numpy as np

from hatdet.integer.graph import IntGraph
from hatdet.integer.operators.windows.conv_transpose import ConvTransposeOp
from tests.helpers.literal_integer import ORACLES, Arithmetic


def accumulators(graph: IntGraph, op: ConvTransposeOp, codes: np.ndarray) -> np.ndarray:
    """int64 (B, O, H, W): every input value adds its kernel around its place."""
    x = codes.astype(np.int64) - graph.qparams(op.input).zero_point
    _, out_h, out_w = graph.tensors[op.output].shape
    outputs, inputs, kh, kw = op.weight.shape
    acc = np.zeros((len(x), outputs, out_h, out_w), dtype=np.int64) + op.bias.reshape(1, -1, 1, 1)
    for row in range(x.shape[2]):
        for column in range(x.shape[3]):
            for ky in range(kh):
                for kx in range(kw):
                    y_row = row * op.stride[0] - op.padding[0] + ky
                    y_column = column * op.stride[1] - op.padding[1] + kx
                    if 0 <= y_row < out_h and 0 <= y_column < out_w:
                        weight = op.weight[:, :, ky, kx].astype(np.int64)
                        acc[:, :, y_row, y_column] += x[:, :, row, column] @ weight.T
    return acc


def _literal(graph: IntGraph, op: ConvTransposeOp, inputs: list[np.ndarray], math_: Arithmetic) -> np.ndarray:
    acc = accumulators(graph, op, inputs[0])
    x, y = graph.qparams(op.input), graph.qparams(op.output)
    out = np.empty_like(acc)
    for o in range(acc.shape[1]):
        m, e = math_.multiplier(math_.conv_real(x.scale, op.weight_scale[o], y.scale))
        out[:, o] = math_.scale(acc[:, o], m, e) + y.zero_point
    return np.clip(out, op.lo, op.hi)


ORACLES[ConvTransposeOp] = _literal
