"""Average pooling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hatdet.integer.operators.windows.average_pool import AveragePoolOp, average_pool, is_same
from hatdet.integer.operators.windows.window import Pair
from hatdet.quantization.operators.base import Form, Run
from hatdet.quantization.operators.windows.pool import check_ceil_mode, kernel_and_stride, without_ceil_mode
from hatdet.quantization.tracing.applied import Applied, Sized, factors, fixed, is_whole_map, sides
from hatdet.quantization.tracing.refusals import NoModule, SizeDependent, pair

AVERAGE_POOL_KERNEL = 8
"""Largest average pooling: what accelerators take."""


class IntegerAveragePool(torch.autograd.Function):
    """Mean of windows of centred codes, for a zero point; what is padded does not count."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Pair, stride: Pair, padding: Pair, zero: int) -> Tensor:
        ctx.save_for_backward(x)
        ctx.window = kernel, stride, padding
        return average_pool(x, kernel, stride, padding, zero)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        gx = torch.ops.aten.avg_pool2d_backward(grad, x, *ctx.window, False, False, None)
        return gx, None, None, None, None


def _average_pool(applied: Applied) -> nn.Module:
    a = applied.arguments("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
    padding = a.get("padding", 0)
    if is_whole_map(a["kernel_size"], applied.shapes) and sides(padding) == (0, 0) and not a.get("divisor_override"):
        return nn.AdaptiveAvgPool2d(1)
    what = "average pooling"
    return nn.AvgPool2d(
        fixed(a["kernel_size"], what), fixed(a.get("stride") or None, what), fixed(padding, what),
        a.get("ceil_mode", False), a.get("count_include_pad", True), a.get("divisor_override"),
    )  # fmt: skip


def _adaptive_average_pool(applied: Applied) -> nn.Module:
    size = applied.arguments("output_size")["output_size"]
    if not any(isinstance(side, Sized) for side in sides(size)):
        return nn.AdaptiveAvgPool2d(size)
    ratios = factors(size, applied.shapes, lambda here, wanted: here / wanted)
    if ratios == [(1.0, 1.0)]:
        return nn.Identity()
    if len(ratios) == 1 and ratios[0][0].is_integer() and ratios[0][1].is_integer():
        return nn.AvgPool2d(tuple(int(f) for f in ratios[0]))  # type: ignore[arg-type]
    raise SizeDependent("pooling to a size that is no whole part of the map's", "use AvgPool2d with a fixed kernel")


class AveragePool(Form):
    op = AveragePoolOp
    modules = (nn.AvgPool2d,)
    subclasses = (nn.AvgPool2d,)
    makers = {"avg_pool2d": _average_pool, "adaptive_avg_pool2d": _adaptive_average_pool}

    def check(self, module: nn.Module) -> None:
        assert isinstance(module, nn.AvgPool2d)
        if module.divisor_override is not None:
            raise NoModule("average pooling with divisor_override", "leave it out")
        if max(pair(module.kernel_size)) > AVERAGE_POOL_KERNEL:
            raise NoModule(
                f"average pooling with kernel {module.kernel_size}",
                f"at most {AVERAGE_POOL_KERNEL}, or AdaptiveAvgPool2d(1) for a whole map",
            )

    def check_maps(self, module: nn.Module, sizes: Sequence[Pair]) -> None:
        assert isinstance(module, nn.AvgPool2d)
        check_ceil_mode(module, sizes)
        if module.count_include_pad or pair(module.padding) == (0, 0):
            return
        window = kernel_and_stride(module)
        if not all(is_same(size, **window, padding=pair(module.padding)) for size in sizes):
            raise NoModule(
                f"average pooling that leaves padding out, with kernel {module.kernel_size}, stride {module.stride} "
                f"and padding {module.padding}",
                "set count_include_pad=True or padding=0, or pad by half of kernel minus stride",
            )

    def canonical(self, module: nn.Module) -> list[tuple[str, nn.Module]]:
        assert isinstance(module, nn.AvgPool2d)
        rows, columns = pair(module.padding)
        if (rows, columns) == (0, 0) or not module.count_include_pad:
            return [("", without_ceil_mode(module))]
        pad = nn.ZeroPad2d((columns, columns, rows, rows))
        return [("_pad", pad), ("", nn.AvgPool2d(module.kernel_size, module.stride))]

    def settings(self, module: nn.Module | None) -> dict[str, Any]:
        assert isinstance(module, nn.AvgPool2d)
        return {**kernel_and_stride(module), "padding": pair(module.padding)}

    def run(self, run: Run) -> Tensor:
        a = run.step.arguments
        return IntegerAveragePool.apply(run.inputs[0], a["kernel"], a["stride"], a["padding"], run.y.zero_point)
