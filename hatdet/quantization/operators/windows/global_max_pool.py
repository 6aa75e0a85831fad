"""The maximum of whole maps, or of the equal parts of them."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from hatdet.integer.operators.windows.global_max_pool import GlobalMaxPoolOp, global_max_pool
from hatdet.quantization.operators.base import Form, Run
from hatdet.quantization.operators.windows.pool import check_size
from hatdet.quantization.tracing.applied import Applied
from hatdet.quantization.tracing.refusals import NoModule, pair


def _adaptive_max_pool(applied: Applied) -> nn.Module:
    a = applied.arguments("output_size", "return_indices")
    return nn.AdaptiveMaxPool2d(a["output_size"], a.get("return_indices", False))


def _amax(applied: Applied) -> nn.Module:
    """What is no maximum of whole maps: those are found however they are written (``tracing.patterns``)."""
    a = applied.arguments("dim", "keepdim")
    dim = a.get("dim", a.get("axis", ()))
    raise NoModule(f"a maximum over dim={dim}", "only that of whole maps, amax((2, 3)), is supported")


class GlobalMaxPool(Form):
    op = GlobalMaxPoolOp
    modules = (nn.AdaptiveMaxPool2d,)
    subclasses = (nn.AdaptiveMaxPool2d,)
    makers = {
        **dict.fromkeys(("adaptive_max_pool2d", "adaptive_max_pool2d_with_indices"), _adaptive_max_pool),
        "amax": _amax,
    }
    written = ("amax((2, 3))", "flatten(2).max(-1)[0]")

    def check(self, module: nn.Module) -> None:
        assert isinstance(module, nn.AdaptiveMaxPool2d)
        check_size(module)
        if module.return_indices:
            raise NoModule("max pooling with return_indices", "leave it out")

    def settings(self, module: nn.Module | None) -> dict[str, Any]:
        assert isinstance(module, nn.AdaptiveMaxPool2d)
        return {"size": pair(module.output_size)}

    def run(self, run: Run) -> Tensor:
        return global_max_pool(run.inputs[0], run.step.arguments["size"])
