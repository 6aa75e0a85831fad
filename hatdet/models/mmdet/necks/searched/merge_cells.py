"""Two maps become one: the cells of searched pyramids."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hatdet.models.mmdet.layers.conv import ConvModule
from hatdet.utils.annotations import Spec

_CONV: dict[str, Any] = {"groups": 1, "kernel_size": 3, "padding": 1, "bias": True}


def resized(x: Tensor, size: Sequence[int], mode: str) -> Tensor:
    """``x`` on another size: larger by interpolation, smaller by a max pool of whole windows, for which zeros are put
    around maps that are no multiple."""
    here, size = tuple(x.shape[-2:]), tuple(size)
    if here == size:
        return x
    if here < size:
        return F.interpolate(x, size=size, mode=mode)
    windows = tuple(-(-a // b) for a, b in zip(here, size, strict=True))
    down, right = (window * b - a for window, a, b in zip(windows, here, size, strict=True))
    if down or right:
        x = F.pad(x, (right // 2, right - right // 2, down // 2, down - down // 2))
    return F.max_pool2d(x, windows, stride=windows)


class MergeCell(nn.Module, ABC):
    """Two maps, each through a convolution on request (``input1_conv``, ``input2_conv``), on one size, merged, and
    through ``out_conv``.

    Args:
        in_channels: of what is merged; ``None`` without ``out_conv``.
        out_channels: of the result, and of the inputs' convolutions.
        with_out_conv: whether there is ``out_conv``.
        out_conv_cfg: its arguments.
        out_norm_cfg, out_conv_order: its normalization, and the order.
        with_input1_conv, with_input2_conv: 3x3 convolutions of the inputs.
        input_conv_cfg, input_norm_cfg: of these.
        upsample_mode: of ``F.interpolate``.
    """

    widening = 1
    """Channels of what is merged, for one of the inputs."""

    def __init__(
        self,
        in_channels: int | None = None,
        out_channels: int | None = None,
        with_out_conv: bool = True,
        out_conv_cfg: dict[str, Any] = _CONV,
        out_norm_cfg: Spec | None = None,
        out_conv_order: Sequence[str] = ("act", "conv", "norm"),
        with_input1_conv: bool = False,
        with_input2_conv: bool = False,
        input_conv_cfg: Spec | None = None,
        input_norm_cfg: Spec | None = None,
        upsample_mode: Literal["nearest", "bilinear"] = "nearest",
    ) -> None:
        super().__init__()
        self.upsample_mode = upsample_mode
        self.out_conv = None
        if with_out_conv:
            assert in_channels is not None and out_channels is not None
            self.out_conv = ConvModule(
                self.widening * in_channels, out_channels, **out_conv_cfg, norm_cfg=out_norm_cfg, order=out_conv_order
            )

        def conv(there: bool) -> nn.Module:
            if not there:
                return nn.Identity()
            assert out_channels is not None
            return ConvModule(
                out_channels, out_channels, 3, padding=1, conv_cfg=input_conv_cfg, norm_cfg=input_norm_cfg, bias=True
            )

        self.input1_conv, self.input2_conv = conv(with_input1_conv), conv(with_input2_conv)

    @abstractmethod
    def merged(self, x1: Tensor, x2: Tensor) -> Tensor:
        """Of two maps of one size."""

    def forward(self, x1: Tensor, x2: Tensor, out_size: Sequence[int] | None = None) -> Tensor:
        """The result has ``out_size`` rows and columns, or as many as the larger map."""
        size = max(tuple(x1.shape[-2:]), tuple(x2.shape[-2:])) if out_size is None else out_size
        x1 = resized(self.input1_conv(x1), size, self.upsample_mode)
        x = self.merged(x1, resized(self.input2_conv(x2), size, self.upsample_mode))
        return x if self.out_conv is None else self.out_conv(x)  # type: ignore[no-any-return]


class SumCell(MergeCell):
    """The sum."""

    def merged(self, x1: Tensor, x2: Tensor) -> Tensor:
        return x1 + x2


class ConcatCell(MergeCell):
    """Both, one after the other."""

    widening = 2

    def merged(self, x1: Tensor, x2: Tensor) -> Tensor:
        return torch.cat((x1, x2), dim=1)


class GlobalPoolingCell(MergeCell):
    """The second, and the first times a gate of the global mean of the second."""

    def merged(self, x1: Tensor, x2: Tensor) -> Tensor:
        return x2 + x1 * F.adaptive_avg_pool2d(x2, 1).sigmoid()
