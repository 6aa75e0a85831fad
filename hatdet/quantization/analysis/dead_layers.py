"""Layers that give one value on all calibration images: nothing behind them can learn or see anything through them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hatdet.quantization.qat.fx_adapter import Plan


class LayerWatch:
    """Watches the outputs of a network's layers, each by itself, while it runs in float.

    A range that several values share does not tell which of them is dead, so every module is looked at; what is no
    module (an addition, a product) is judged by its range, where that is its own.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.ranges: dict[str, tuple[float, float]] = {}
        self._hooks = [
            step.module.register_forward_hook(self._hook(step.name)) for step in plan.steps if step.module is not None
        ]

    def _hook(self, name: str) -> Any:
        def note(_module: Any, _inputs: Any, output: Tensor) -> None:
            low, high = (float(v) for v in torch.aminmax(output.detach()))
            seen = self.ranges.get(name, (low, high))
            self.ranges[name] = min(low, seen[0]), max(high, seen[1])

        return note

    def close(self) -> list[str]:
        """Stop watching; one line for every layer whose output was the same everywhere on all images."""
        for hook in self._hooks:
            hook.remove()
        users: dict[int, int] = {}
        for step in self.plan.steps:
            key = id(self.plan.quantizers[step.output])
            users[key] = users.get(key, 0) + 1
        lines = []
        for step in self.plan.steps:
            quantizer = self.plan.quantizers[step.output]
            found = self.ranges.get(step.name)
            if step.module is None and not quantizer.fixed and users[id(quantizer)] == 1 and quantizer.calibrated:
                observer = quantizer.activation_post_process
                found = float(observer.min_val), float(observer.max_val)
            if found is not None and found[0] == found[1]:
                lines.append(
                    f"{step.name} ({step.kind}) is dead: it gives {found[0]:.4g} everywhere on all calibration images"
                )
        return lines
