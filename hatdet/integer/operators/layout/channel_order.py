"""Channels in another order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from hatdet.integer.operators.base import Kernel, Machine, OneInput, RealFunction, Settings
from hatdet.integer.tensors import Shape


@dataclass(frozen=True)
class ChannelOrderOp(OneInput):
    """Channel j of the output is channel ``channels[j]`` of the input. Parameters are unchanged."""

    kind: ClassVar[str] = "channel_order"
    shares_scale: ClassVar[bool] = True
    setting_names: ClassVar[tuple[str, ...]] = ("channels",)
    channels: tuple[int, ...]

    @classmethod
    def shape_of(cls, shapes: Sequence[Shape], settings: Settings) -> Shape:
        return len(settings["channels"]), *shapes[0][1:]

    @classmethod
    def real(cls, settings: Settings) -> RealFunction:
        return lambda x, w, b: reorder(x[0], settings["channels"])

    def make_kernel(self, machine: Machine) -> Kernel:
        return lambda x: reorder(x[0], self.channels)

    def with_outputs(self, channels: Sequence[int]) -> ChannelOrderOp:
        return replace(self, channels=tuple(self.channels[c] for c in channels))

    def groups(self, channels: int) -> int:
        """Of a shuffle: the input's ``channels`` in so many groups, and the output has the first of each, then the
        second of each, and so on; 1 of any other order."""
        for count in (n for n in range(2, channels) if channels % n == 0):
            if self.channels == tuple(range(channels)[i] for k in range(channels // count)
                                      for i in range(k, channels, channels // count)):  # fmt: skip
                return count
        return 1

    def check(self, shapes: Sequence[Shape]) -> None:
        self.check_numbers("channels", self.channels, max(len(self.channels), 1), 0)
        if max(self.channels) >= shapes[0][0]:
            raise self.refusal(f"channel {max(self.channels)}", f"those of its input, 0 to {shapes[0][0] - 1}")


def reorder(x: Tensor, channels: Sequence[int]) -> Tensor:
    """The listed channels of maps (B, C, H, W), channels last in memory."""
    return x.permute(0, 2, 3, 1)[..., list(channels)].permute(0, 3, 1, 2)
