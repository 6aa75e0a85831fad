"""Which arithmetic a runtime's kernels have, found by running a small file of every kind of rounding.

What a runtime says of itself names kernels, not numbers, and says nothing of a delegate that is missing from a build.
Power-of-two multipliers make ties, which arithmetics round differently; the others tell double from single rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hatdet.export.tflite import int8 as tflite
from hatdet.integer.executor import IntExecutor
from hatdet.integer.graph import IntGraph
from hatdet.integer.operators.base import Operator
from hatdet.integer.operators.pairs.add import AddOp
from hatdet.integer.operators.pairs.mul import MulOp
from hatdet.integer.operators.windows.conv import ConvOp
from hatdet.integer.profiles.table import PROFILES
from hatdet.integer.tensors import QuantParams, TensorInfo

Codes = NDArray[Any]
_SIZE = (16, 16)
_X, _Y = QuantParams(2.0**-5, 3), QuantParams(2.0**-5, -7)
_SUM, _PRODUCT = QuantParams(float(np.float32(0.0613)), 5), QuantParams(float(np.float32(0.0417)), -3)


@dataclass(frozen=True)
class Probe:
    """The file, the input codes that it is run on (1, h, w, 1), and by profile the outputs that follow."""

    model: bytes
    codes: Codes
    expected: dict[str, list[Codes]]

    def identify(self, outputs: Sequence[Codes]) -> str | None:
        """The profile of which all outputs are; None: of none."""
        for name, wanted in self.expected.items():
            if all(np.array_equal(a, b) for a, b in zip(outputs, wanted, strict=True)):
                return name
        return None


def probe_graph(profile: str) -> IntGraph:
    """A dense and a depthwise convolution, a sum and a product, in one arithmetic."""
    rng = np.random.default_rng(5)
    powers = np.float32(2.0) ** -np.arange(1, 9, dtype=np.float32)  # with weights of 1 many sums tie
    others = rng.uniform(0.004, 0.9, 24).astype(np.float32)
    scales: NDArray[np.float32] = np.concatenate((powers, others / np.float32(64)))
    weight = np.concatenate((np.ones(8, np.int64), rng.integers(-127, 128, 24))).reshape(32, 1, 1, 1)
    spread = (np.concatenate((others, powers)) / 256).astype(np.float32)
    ops: list[Operator] = [
        _convolution("x", "dense", weight, scales, 1),
        _convolution("dense", "depthwise", rng.integers(-127, 128, (32, 1, 3, 3)), spread, 32),
        AddOp("sum_add", "dense", "depthwise", "sum", "none", -128, 127),
        MulOp("product_mul", "dense", "depthwise", "product"),
    ]
    quantized = {"dense": _Y, "depthwise": _Y, "sum": _SUM, "product": _PRODUCT}
    tensors = {"x": TensorInfo("x", (1, *_SIZE), _X)}
    tensors |= {name: TensorInfo(name, (32, *_SIZE), q) for name, q in quantized.items()}
    return IntGraph(tensors, ops, ("x",), tuple(quantized), {"profile": profile})


def _convolution(source: str, out: str, weight: NDArray[Any], scales: NDArray[np.float32], groups: int) -> ConvOp:
    padding = (weight.shape[2] // 2,) * 2
    bias = np.arange(-16, 16, dtype=np.int32) * 3
    settings: Any = ((1, 1), padding, (1, 1), groups, "none", -128, 127)
    return ConvOp(f"{out}_conv", source, out, weight.astype(np.int8), bias, scales, *settings)


@lru_cache(maxsize=1)
def probe() -> Probe:
    """The same every time."""
    codes = np.arange(-128, 128, dtype=np.int8).reshape(1, 1, *_SIZE)
    expected = {}
    for name in PROFILES:
        found = IntExecutor(probe_graph(name))(torch.from_numpy(codes))
        expected[name] = [np.ascontiguousarray(value.numpy().transpose(0, 2, 3, 1)) for value in found]
    model = tflite.write(probe_graph(next(iter(PROFILES))))
    return Probe(model, np.ascontiguousarray(codes.transpose(0, 2, 3, 1)), expected)


def arithmetic_of(run: Callable[[bytes, Codes], Sequence[Codes]]) -> str | None:
    """The profile that a runtime computes in; None: none of hatdet's, or it cannot run the file.

    Args:
        run: outputs, in the file's order, of a model for input codes.
    """
    known = probe()
    try:
        return known.identify(run(known.model, known.codes))
    except (RuntimeError, ValueError):
        return None
