"""What pools have in common."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, TypeVar

from torch import nn

from hatdet.integer.operators.windows.window import Pair
from hatdet.quantization.tracing.applied import sides
from hatdet.quantization.tracing.refusals import NoModule, pair

Pool = nn.MaxPool2d | nn.AvgPool2d
PoolType = TypeVar("PoolType", nn.MaxPool2d, nn.AvgPool2d)


def check_size(module: nn.AdaptiveAvgPool2d | nn.AdaptiveMaxPool2d) -> None:
    """Check that maps are pooled to a fixed number of rows and columns; whether these divide theirs is known once the
    image's size is."""
    size = module.output_size
    if not all(isinstance(side, int) and side > 0 for side in sides(size)):
        raise NoModule(f"{type(module).__name__} to {size}", "give rows and columns of the output as fixed numbers")


def check_ceil_mode(module: Pool, sizes: Sequence[Pair]) -> None:
    """Check that no window of maps of these sizes (H, W) reaches beyond them."""
    kernel, stride = kernel_and_stride(module).values()
    axes = [zip(size, kernel, stride, pair(module.padding), strict=True) for size in sizes]
    if module.ceil_mode and any((n + 2 * p - k) % s for axis in axes for n, k, s, p in axis):
        shown = " or ".join(f"{rows} x {columns}" for rows, columns in sizes)
        raise NoModule(f"pooling with ceil_mode, which cuts windows off, of maps of {shown}", "leave ceil_mode out")


def without_ceil_mode(module: PoolType) -> PoolType:
    """The same pooling where no window is cut off."""
    if module.ceil_mode:
        module = copy.copy(module)
        module.ceil_mode = False
    return module


def kernel_and_stride(module: Pool) -> dict[str, Any]:
    kernel = pair(module.kernel_size)
    return {"kernel": kernel, "stride": pair(module.stride) if module.stride is not None else kernel}
