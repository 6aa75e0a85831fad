"""Channels as blocks of pixels."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from hatdet.integer.operators.layout.depth_to_space import DepthToSpaceOp, depth_to_space
from hatdet.quantization.operators.base import Form, Run


class DepthToSpace(nn.Module):
    """Pixels as blocks of pixels, with the channels in TensorFlow's order."""

    def __init__(self, block: int) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        return depth_to_space(x, self.block)


class DepthToSpaceForm(Form):
    op = DepthToSpaceOp
    modules = (DepthToSpace,)
    written = ("nn.PixelShuffle", "pixel_shuffle()", "view().permute().reshape()")

    def settings(self, module: nn.Module | None) -> dict[str, Any]:
        assert isinstance(module, DepthToSpace)
        return {"block": module.block}

    def run(self, run: Run) -> Tensor:
        return depth_to_space(run.inputs[0], run.step.arguments["block"])
