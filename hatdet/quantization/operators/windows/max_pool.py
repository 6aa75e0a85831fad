"""Max pooling."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from hatdet.integer.operators.windows.max_pool import MaxPoolOp, max_pool
from hatdet.quantization.operators.base import Form, Run
from hatdet.quantization.operators.windows.pool import kernel_and_stride
from hatdet.quantization.tracing.applied import Applied, fixed, is_whole_map
from hatdet.quantization.tracing.refusals import NoModule, pair


def _max_pool(applied: Applied) -> nn.Module:
    a = applied.arguments("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
    if is_whole_map(a["kernel_size"], applied.shapes):
        raise NoModule("max pooling over a whole map", "use the average of the whole map, AdaptiveAvgPool2d(1)")
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
        if module.ceil_mode or pair(module.dilation) != (1, 1):
            raise NoModule("max pooling with ceil_mode or dilation", "leave both out")
        if module.return_indices:
            raise NoModule("max pooling with return_indices", "leave it out")

    def settings(self, module: nn.Module | None) -> dict[str, Any]:
        assert isinstance(module, nn.MaxPool2d)
        return {**kernel_and_stride(module), "padding": pair(module.padding)}

    def run(self, run: Run) -> Tensor:
        return max_pool(run.inputs[0], **run.step.arguments)
