"""Nearest-neighbour resizing."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from hatdet.integer.operators.layout.resize_nearest import ResizeNearestOp
from hatdet.quantization.operators.base import Run
from hatdet.quantization.operators.layout.resizing import ResizeForm, interpolate, upsample


class ResizeNearest(ResizeForm):
    op = ResizeNearestOp
    makers = {"interpolate": interpolate, "upsample": interpolate, "upsample_nearest": upsample}

    def accepts(self, module: nn.Module) -> bool:
        return isinstance(module, nn.Upsample) and module.mode == "nearest"

    def run(self, run: Run) -> Tensor:
        return F.interpolate(run.inputs[0], scale_factor=float(run.step.arguments["factor"]), mode="nearest")
