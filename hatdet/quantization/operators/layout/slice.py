"""Parts of maps."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from hatdet.integer.operators.layout.slice import Places, SliceOp, slice_map
from hatdet.quantization.operators.base import Form, Run


class SliceMap(nn.Module):
    """A range of channels, rows and columns of maps of any size."""

    def __init__(self, begin: Places, end: Places, stride: tuple[int, int]) -> None:
        super().__init__()
        self.begin, self.end, self.stride = begin, end, stride

    def forward(self, x: Tensor) -> Tensor:
        return slice_map(x, self.begin, self.end, self.stride)


class Slice(Form):
    op = SliceOp
    modules = (SliceMap,)
    written = (
        "x[:, a:b]", "x[..., a:b:2, :-1]", "chunk()", "split()", "tensor_split()", "narrow()", "unbind()", "select()",
        "nn.PixelUnshuffle", "pixel_unshuffle()",
    )  # fmt: skip

    def settings(self, module: nn.Module | None) -> dict[str, Any]:
        assert isinstance(module, SliceMap)
        return {"begin": module.begin, "end": module.end, "stride": module.stride}

    def run(self, run: Run) -> Tensor:
        return slice_map(run.inputs[0], **run.step.arguments)
