"""Max pooling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from hatdet.integer.operators.windows.max_pool import MaxPoolOp, max_pool
from hatdet.integer.operators.windows.window import Pair
from hatdet.quantization.operators.base import Form, Run
from hatdet.quantization.operators.windows.pool import check_ceil_mode, kernel_and_stride, without_ceil_mode
from hatdet.quantization.tracing.applied import Applied, fixed, is_whole_map, sides
from hatdet.quantization.tracing.refusals import NoModule, pair


def _max_pool(applied: Applied) -> nn.Module:
    a = applied.arguments("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
    plain = sides(a.get("padding", 0)) == (0, 0) and not a.get("return_indices")
    if plain and is_whole_map(a["kernel_size"], applied.shapes):
        return nn.AdaptiveMaxPool2d(1)
    return nn.MaxPool2d(
        fixed(a["kernel_size"], "max pooling"),
        fixed(a.get("stride") or None, "max pooling"),
        fixed(a.get("padding", 0), "max pooling"),
        a.get("dilation", 1),
        a.get("return_indices", False),
        a.get("ceil_mode", False),
    )


class MaxPool(Form):
    op = MaxPoolOp
    modules = (nn.MaxPool2d,)
    subclasses = (nn.MaxPool2d,)
    makers = {"max_pool2d": _max_pool, "max_pool2d_with_indices": _max_pool}

    def check(self, module: nn.Module) -> None:
        assert isinstance(module, nn.MaxPool2d)
        if pair(module.dilation) != (1, 1):
            raise NoModule("max pooling with dilation", "leave it out")
        if module.return_indices:
            raise NoModule("max pooling with return_indices", "leave it out")

    def check_maps(self, module: nn.Module, sizes: Sequence[Pair]) -> None:
        assert isinstance(module, nn.MaxPool2d)
        check_ceil_mode(module, sizes)

    def canonical(self, module: nn.Module) -> list[tuple[str, nn.Module]]:
        assert isinstance(module, nn.MaxPool2d)
        return [("", without_ceil_mode(module))]

    def settings(self, module: nn.Module | None) -> dict[str, Any]:
        assert isinstance(module, nn.MaxPool2d)
        return {**kernel_and_stride(module), "padding": pair(module.padding)}

    def run(self, run: Run) -> Tensor:
        return max_pool(run.inputs[0], **run.step.arguments)
