"""How torch's transposed convolution is said in TensorFlow Lite, without shifting anything by a pixel.

TRANSPOSE_CONV with padding SAME makes ``size * stride`` rows and begins ``(kernel - stride) // 2`` rows into the whole
result, VALID makes all of that. Torch begins ``padding`` rows into it and ends where ``output_padding`` says. SAME is
used where that is its part, on both axes; else VALID, and a SLICE where a part is wanted. Rows of zeros at the kernel's
end make the result longer, by rows that are the bias alone: so no form depends on what a runtime makes of an output
that is larger than the products reach. (Vela takes these sizes of the output only.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hatdet.export.tflite.writer import TfliteWriter

Pair = tuple[int, int]


@dataclass(frozen=True)
class TransposedPlan:
    """``mode`` SAME or VALID with ``zeros`` more rows and columns of the kernel makes a map of ``size``, of which the
    first ``crop`` rows and columns are left out."""

    mode: str
    zeros: Pair
    size: Pair
    crop: Pair


def plan_transposed(size: Pair, kernel: Pair, stride: Pair, padding: Pair, output_padding: Pair) -> TransposedPlan:
    """The form for an input of ``size``; pairs are (rows, columns)."""
    axes = list(zip(size, kernel, stride, padding, output_padding, strict=True))
    if all(k + more - 2 * p == s for _, k, s, p, more in axes):
        rows, columns = (n * s for n, _, s, _, _ in axes)
        return TransposedPlan("SAME", output_padding, (rows, columns), (0, 0))
    below, right = (max(0, more - p, s - k) for _, k, s, p, more in axes)  # Vela wants the stride at least
    rows, columns = ((n - 1) * s + k + more for (n, k, s, _, _), more in zip(axes, (below, right), strict=True))
    return TransposedPlan("VALID", (below, right), (rows, columns), padding)


def plan_of(writer: Any, op: Any) -> TransposedPlan:
    """The form of an operator of a file or a network that is being written."""
    size = writer.shapes[op.inputs[0]][1:]
    return plan_transposed(size, op.weight.shape[2:], op.stride, op.padding, op.output_padding)


def stored_kernel(weight: NDArray[Any], zeros: Pair) -> NDArray[Any]:
    """A weight (O, I, kh, kw) as the file has it, (O, kh, kw, I)."""
    return np.pad(weight, ((0, 0), (0, 0), (0, zeros[0]), (0, zeros[1]))).transpose(0, 2, 3, 1)


def emit_transposed(
    writer: TfliteWriter,
    op: Any,
    plan: TransposedPlan,
    parameters: tuple[int, int],
    tensor: Callable[[str, tuple[int, int, int]], int],
    clamp: tuple[str, dict[str, Any]] | None,
) -> None:
    """Write TRANSPOSE_CONV, the SLICE that crops it, and the operator ``clamp`` (code, settings) behind it.

    Args:
        parameters: weight and bias.
        tensor: makes one between them: of its name, and its shape (C, H, W).
    """
    (channels, *size), label = writer.shapes[op.output], writer.names[op.output]
    shape = writer.integers(f"{op.name}/shape", (1, *plan.size, channels))
    settings = {"padding": plan.mode, "strideH": op.stride[0], "strideW": op.stride[1]}
    weight, bias = parameters
    steps: list[tuple[str, list[int], dict[str, Any]]] = [
        ("TRANSPOSE_CONV", [shape, weight, writer.index[op.inputs[0]], bias], settings)
    ]
    sizes = [(channels, *plan.size)]
    if plan.size != tuple(size):
        begin = writer.integers(f"{op.name}/begin", (0, *plan.crop, 0))
        steps.append(("SLICE", [begin, writer.integers(f"{op.name}/size", (1, *size, channels))], {}))
        sizes.append((channels, size[0], size[1]))
    if clamp is not None:
        steps.append((clamp[0], [], clamp[1]))
    made: list[int] = []
    for (code, inputs, own), between in zip(steps[:-1], sizes, strict=False):
        made = [writer.step(code, [*made, *inputs], tensor(f"{label}/{code.lower()}", between), **own)]
    code, inputs, own = steps[-1]
    writer.emit(code, op, [*made, *inputs], **own)
