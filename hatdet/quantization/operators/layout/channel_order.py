"""Channels in another order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from hatdet.integer.operators.layout.channel_order import ChannelOrderOp, reorder
from hatdet.quantization.operators.base import Form, Run


class ChannelOrder(nn.Module):
    """Maps with the listed channels of other maps."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.channels = tuple(channels)

    def forward(self, x: Tensor) -> Tensor:
        return reorder(x, self.channels)


class Reorder(Form):
    op = ChannelOrderOp
    modules = (ChannelOrder,)
    written = (
        "nn.ChannelShuffle", "channel_shuffle()", "view().transpose(1, 2).reshape()", "x[:, [2, 1, 0]]", "x[:, ::2]",
        "flip(1)", "index_select()", "repeat()",
    )  # fmt: skip

    def settings(self, module: nn.Module | None) -> dict[str, Any]:
        assert isinstance(module, ChannelOrder)
        return {"channels": module.channels}

    def run(self, run: Run) -> Tensor:
        return reorder(run.inputs[0], run.step.arguments["channels"])
