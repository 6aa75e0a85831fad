"""Zeros around maps."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from hatdet.integer.operators.layout.pad import PadOp, pad
from hatdet.integer.operators.layout.slice import FIRST, LAST
from hatdet.quantization.operators.base import Form, Run
from hatdet.quantization.operators.layout.slice import SliceMap
from hatdet.quantization.tracing.applied import Applied, fixed
from hatdet.quantization.tracing.refusals import NoModule


def _pad(applied: Applied) -> nn.Module:
    a = applied.arguments("pad", "mode", "value")
    if a.get("mode", "constant") != "constant" or (a.get("value") or 0) != 0:
        raise NoModule(f"padding with mode {a.get('mode')!r} and value {a.get('value')}", "pad with zeros")
    numbers = list(fixed(a["pad"], "padding")) if isinstance(a["pad"], (tuple, list)) else []
    while len(numbers) > 4 and numbers[-2:] == [0, 0]:
        numbers = numbers[:-2]
    if len(numbers) not in (2, 4) or not all(isinstance(n, int) for n in numbers):
        raise NoModule(f"padding by {a['pad']}", "pad rows and columns by fixed numbers")
    if not any(numbers):
        return nn.Identity()
    return nn.ZeroPad2d(tuple(numbers + [0] * (4 - len(numbers))))  # type: ignore[arg-type]


class Pad(Form):
    op = PadOp
    modules = (nn.ZeroPad2d,)
    spelled = (nn.ConstantPad2d,)
    subclasses = (nn.ZeroPad2d,)
    makers = {"pad": _pad}

    def check(self, module: nn.Module) -> None:
        assert isinstance(module, nn.ConstantPad2d)
        if module.value != 0:
            raise NoModule(f"padding with the value {module.value}", "pad with zeros")

    def canonical(self, module: nn.Module) -> list[tuple[str, nn.Module]]:
        """Padding by numbers below 0 takes rows and columns away."""
        assert isinstance(module, nn.ConstantPad2d)
        left, right, top, bottom = module.padding
        if min(module.padding) >= 0:
            return [("", module if isinstance(module, nn.ZeroPad2d) else nn.ZeroPad2d(module.padding))]
        rows, columns = ((0, 1, max(-first, 0)) for first in (top, left))
        last_row, last_column = ((1, 1, min(last, 0)) for last in (bottom, right))
        part = SliceMap((FIRST, rows, columns), (LAST, last_row, last_column), (1, 1))
        more = nn.ZeroPad2d((max(left, 0), max(right, 0), max(top, 0), max(bottom, 0)))
        return [("_crop", part), ("", more)] if max(module.padding) > 0 else [("", part)]

    def settings(self, module: nn.Module | None) -> dict[str, Any]:
        assert isinstance(module, nn.ZeroPad2d)
        left, right, top, bottom = (int(n) for n in module.padding)
        return {"padding": (top, bottom, left, right)}

    def run(self, run: Run) -> Tensor:
        return pad(run.inputs[0], run.step.arguments["padding"], 0)
