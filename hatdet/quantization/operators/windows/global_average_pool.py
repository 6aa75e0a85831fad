"""The average of whole maps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hatdet.integer.operators.windows.global_average_pool import GlobalAveragePoolOp, global_average_pool
from hatdet.quantization.operators.base import Form, Run
from hatdet.quantization.tracing.applied import Applied
from hatdet.quantization.tracing.refusals import NoModule


class IntegerMean(torch.autograd.Function):
    """Global average of centred codes, (B, C, H, W) -> (B, C, 1, 1), for a zero point."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, zero: int) -> Tensor:
        ctx.shape = x.shape
        return global_average_pool(x, zero)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        return (grad / (ctx.shape[2] * ctx.shape[3])).expand(ctx.shape), None


def _mean(applied: Applied) -> nn.Module:
    a = applied.arguments("dim", "keepdim")
    dim, keep = a.get("dim", a.get("axis")), a.get("keepdim", a.get("keepdims"))
    if isinstance(dim, (tuple, list)) and sorted(d % 4 for d in dim) == [2, 3] and keep:
        return nn.AdaptiveAvgPool2d(1)
    raise NoModule(f"a mean over dim={dim}", "only the mean of whole maps, mean((2, 3), keepdim=True), is supported")


class GlobalAveragePool(Form):
    op = GlobalAveragePoolOp
    modules = (nn.AdaptiveAvgPool2d,)
    subclasses = (nn.AdaptiveAvgPool2d,)
    makers = {"mean": _mean}

    def check(self, module: nn.Module) -> None:
        assert isinstance(module, nn.AdaptiveAvgPool2d)
        if module.output_size not in (1, (1, 1), [1, 1]):
            raise NoModule(
                f"AdaptiveAvgPool2d to {module.output_size}: only the average of a whole map has an integer form",
                "set output_size=1, or use AvgPool2d",
            )

    def run(self, run: Run) -> Tensor:
        return IntegerMean.apply(run.inputs[0], run.y.zero_point)
