"""Whether the numbers of an operator go together with each other and with the map that it reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hatdet.integer.operators import (
    AveragePoolOp,
    ConvOp,
    IntOp,
    MaxPoolOp,
    PadOp,
    ResizeBilinearOp,
    ResizeNearestOp,
    TensorInfo,
)
from hatdet.utils.errors import UserError

_REMEDY = "build the graph with QAT2Int again"


def check_geometry(op: IntOp, tensors: Mapping[str, TensorInfo]) -> None:
    """Check strides, paddings, groups, kernels and factors of an operator.

    Raises:
        UserError: naming the operator, the number and what is allowed.
    """
    if isinstance(op, ConvOp):
        _check_groups(op, tensors[op.input].shape[0])
        kernel = op.weight.shape[2], op.weight.shape[3]
        _check_window(op, tensors[op.input].shape, kernel, op.stride, op.padding, op.dilation)
    elif isinstance(op, MaxPoolOp):
        _check_window(op, tensors[op.input].shape, op.kernel, op.stride, op.padding)
        if any(2 * p > k for p, k in zip(op.padding, op.kernel, strict=True)):
            raise _refusal(op, f"padding {op.padding}", f"at most half of the kernel {op.kernel}")
    elif isinstance(op, AveragePoolOp):
        _check_window(op, tensors[op.input].shape, op.kernel, op.stride)
    elif isinstance(op, PadOp):
        _check_numbers(op, "padding", op.padding, 4, 0)
    elif isinstance(op, ResizeNearestOp) and op.factor < 1:
        raise _refusal(op, f"factor {op.factor}", "at least 1")
    elif isinstance(op, ResizeBilinearOp) and op.factor not in (2, 4, 8):
        raise _refusal(op, f"factor {op.factor}", "2, 4 or 8")


def _check_groups(op: ConvOp, channels: int) -> None:
    if op.weight.ndim != 4 or 0 in op.weight.shape:
        raise _refusal(op, f"a weight of shape {op.weight.shape}", "(outputs, inputs / groups, rows, columns)")
    outputs, inputs = op.weight.shape[:2]
    if op.groups < 1 or outputs % op.groups or inputs * op.groups != channels:
        raise UserError(
            f"convolution {op.name!r}: weight {op.weight.shape} in {op.groups} groups "
            f"does not fit {channels} input channels: {_REMEDY}"
        )
    for name, values in (("bias", op.bias), ("weight_scale", op.weight_scale)):
        if values.shape != (outputs,):
            raise _refusal(op, f"a {name} of shape {values.shape}", f"one number for each of {outputs} outputs")


def _check_window(
    op: IntOp,
    shape: tuple[int, int, int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
) -> None:
    for what, values, least in (
        ("kernel", kernel, 1), ("stride", stride, 1), ("padding", padding, 0), ("dilation", dilation, 1),
    ):  # fmt: skip
        _check_numbers(op, what, values, 2, least)
    for size, k, p, d in zip(shape[1:], kernel, padding, dilation, strict=True):
        if d * (k - 1) + 1 > size + 2 * p:
            raise _refusal(
                op, f"a kernel over {d * (k - 1) + 1} rows or columns", f"at most the padded map's {size + 2 * p}"
            )


def _check_numbers(op: IntOp, what: str, values: Sequence[int], count: int, least: int) -> None:
    if len(values) != count or any(not isinstance(v, (int, np.integer)) or v < least for v in values):
        raise _refusal(op, f"{what} {tuple(values)}", f"{count} whole numbers of {least} and more")


def _refusal(op: IntOp, found: str, allowed: str) -> UserError:
    return UserError(f"operator {op.name!r} ({op.kind}) has {found}; allowed: {allowed}; {_REMEDY}")
