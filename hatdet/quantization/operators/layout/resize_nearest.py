"""Nearest-neighbour resizing."""

from __future__ import annotations

from torch import Tensor, nn

from hatdet.integer.operators.layout.resize_nearest import ResizeNearestOp, resize_nearest
from hatdet.integer.operators.layout.resizing import factor_of
from hatdet.quantization.operators.base import Run
from hatdet.quantization.operators.layout.resizing import NEAREST, ResizeForm, interpolate, upsample


class ResizeNearest(ResizeForm):
    op = ResizeNearestOp
    makers = {"interpolate": interpolate, "upsample": interpolate, "upsample_nearest": upsample}

    def accepts(self, module: nn.Module) -> bool:
        return isinstance(module, nn.Upsample) and module.mode in NEAREST

    def run(self, run: Run) -> Tensor:
        return resize_nearest(run.inputs[0], factor_of(run.inputs[0].shape, **run.step.arguments))
