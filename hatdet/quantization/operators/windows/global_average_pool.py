"""The average of whole maps, or of the equal parts of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hatdet.integer.operators.windows.global_average_pool import GlobalAveragePoolOp, global_average_pool
from hatdet.integer.operators.windows.window import Pair, block_of
from hatdet.quantization.operators.base import Form, Run
from hatdet.quantization.operators.windows.pool import check_size
from hatdet.quantization.tracing.applied import Applied
from hatdet.quantization.tracing.refusals import NoModule, pair


class IntegerMean(torch.autograd.Function):
    """Averages of the blocks of centred codes, (B, C, H, W) -> (B, C, *size), for a zero point."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, zero: int, size: Pair) -> Tensor:
        ctx.block = block_of(x.shape, size)
        return global_average_pool(x, zero, size)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        rows, columns = ctx.block
        return (grad / (rows * columns)).repeat_interleave(rows, 2).repeat_interleave(columns, 3), None, None


def _mean(applied: Applied) -> nn.Module:
    """What is no mean of whole maps: those are found however they are written (``tracing.patterns``)."""
    a = applied.arguments("dim", "keepdim")
    dim = a.get("dim", a.get("axis"))
    raise NoModule(f"a mean over dim={dim}", "only the mean of whole maps, mean((2, 3)), is supported")


class GlobalAveragePool(Form):
    op = GlobalAveragePoolOp
    modules = (nn.AdaptiveAvgPool2d,)
    subclasses = (nn.AdaptiveAvgPool2d,)
    makers = {"mean": _mean}
    written = ("mean((2, 3))", "mean(-1).mean(-1)", "flatten(2).mean(2)")

    def check(self, module: nn.Module) -> None:
        assert isinstance(module, nn.AdaptiveAvgPool2d)
        check_size(module)

    def settings(self, module: nn.Module | None) -> dict[str, Any]:
        assert isinstance(module, nn.AdaptiveAvgPool2d)
        return {"size": pair(module.output_size)}

    def run(self, run: Run) -> Tensor:
        return IntegerMean.apply(run.inputs[0], run.y.zero_point, run.step.arguments["size"])
