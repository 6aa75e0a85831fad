"""Inverted residuals (MobileNetV2, arXiv 1801.04381), with squeeze-and-excitation on request."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hatdet.models.mmdet.layers.attention import SELayer
from hatdet.models.mmdet.layers.conv import ConvModule
from hatdet.models.mmdet.layers.csp.defaults import BN, RELU
from hatdet.models.mmdet.layers.csp.drop_path import drop_path
from hatdet.models.mmdet.layers.init import initialize
from hatdet.utils.annotations import Spec


class Residual(nn.Module):
    """A body, and the input added to it where shapes agree; memory of the body is saved by computing it twice
    (``with_cp``)."""

    order: ClassVar[tuple[str, ...]]
    """Names of the body's parts in a row; of those that are None there are none."""
    with_cp: bool
    add_identity: bool
    drop_path: nn.Module

    def body(self, x: Tensor) -> Tensor:
        """What is added to the input."""
        for part in (getattr(self, name) for name in self.order):
            x = x if part is None else part(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        again = self.with_cp and x.requires_grad
        out: Tensor = checkpoint(self.body, x, use_reentrant=False) if again else self.body(x)
        return x + self.drop_path(out) if self.add_identity else out


class InvertedResidual(Residual):
    """1x1 expansion, depthwise, 1x1 projection without activation (``expand_conv``, ``depthwise_conv``, ``se``,
    ``linear_conv``).

    Args:
        in_channels, out_channels, mid_channels: of the block, and between expansion and projection.
        kernel_size, stride: of the depthwise convolution; the stride is 1 or 2.
        se_cfg: arguments of :class:`SELayer` after the depthwise convolution; None: none.
        with_expand_conv: without it ``mid_channels`` has to be ``in_channels``.
        conv_cfg, norm_cfg, act_cfg: see :class:`ConvModule`.
        drop_path_rate: stochastic depth.
        with_cp: save memory in training.

    Raises:
        ValueError: another stride, or channels that only an expansion makes.
    """

    order = ("expand_conv", "depthwise_conv", "se", "linear_conv")

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        mid_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        se_cfg: Spec | None = None,
        with_expand_conv: bool = True,
        conv_cfg: Spec | None = None,
        norm_cfg: Spec | None = BN,
        act_cfg: Spec | None = RELU,
        drop_path_rate: float = 0.0,
        with_cp: bool = False,
        init_cfg: Spec | list[Any] | None = None,
    ) -> None:
        super().__init__()
        if stride not in (1, 2):
            raise ValueError(f"stride={stride}; write 1 or 2")
        if not with_expand_conv and mid_channels != in_channels:
            raise ValueError(f"mid_channels={mid_channels} without expansion; write in_channels={in_channels}")
        self.with_cp, self.add_identity = with_cp, stride == 1 and in_channels == out_channels
        parts: dict[str, Any] = {"conv_cfg": conv_cfg, "norm_cfg": norm_cfg}
        self.drop_path = drop_path(drop_path_rate)
        self.expand_conv = None
        if with_expand_conv:
            self.expand_conv = ConvModule(in_channels, mid_channels, 1, act_cfg=act_cfg, **parts)
        self.depthwise_conv = ConvModule(
            mid_channels, mid_channels, kernel_size, stride, padding=kernel_size // 2, groups=mid_channels,
            act_cfg=act_cfg, **parts,
        )  # fmt: skip
        self.se = None if se_cfg is None else SELayer(**se_cfg)
        self.linear_conv = ConvModule(mid_channels, out_channels, 1, act_cfg=None, **parts)
        initialize(self, init_cfg)


class EdgeResidual(Residual):
    """A full convolution to the expanded channels, then the 1x1 projection (``conv1``, ``se``, ``conv2``), which has
    the stride; for processors on which depthwise convolutions are slow. Arguments as in :class:`InvertedResidual`.

    Args:
        with_residual: add the input where shapes agree.
    """

    order = ("conv1", "se", "conv2")

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        mid_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        se_cfg: Spec | None = None,
        with_residual: bool = True,
        conv_cfg: Spec | None = None,
        norm_cfg: Spec | None = BN,
        act_cfg: Spec | None = RELU,
        drop_path_rate: float = 0.0,
        with_cp: bool = False,
        init_cfg: Spec | list[Any] | None = None,
    ) -> None:
        super().__init__()
        if stride not in (1, 2):
            raise ValueError(f"stride={stride}; write 1 or 2")
        self.with_cp = with_cp
        self.add_identity = with_residual and stride == 1 and in_channels == out_channels
        parts: dict[str, Any] = {"conv_cfg": conv_cfg, "norm_cfg": norm_cfg}
        self.drop_path = drop_path(drop_path_rate)
        self.conv1 = ConvModule(
            in_channels, mid_channels, kernel_size, padding=kernel_size // 2, act_cfg=act_cfg, **parts
        )
        self.se = None if se_cfg is None else SELayer(**se_cfg)
        self.conv2 = ConvModule(mid_channels, out_channels, 1, stride, act_cfg=None, **parts)
        initialize(self, init_cfg)
