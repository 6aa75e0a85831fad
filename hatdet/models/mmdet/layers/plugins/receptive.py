"""Blocks that look farther: pooled, dilated and pooled over all of the map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor, nn

from hatdet.models.mmdet.layers.conv import ConvModule
from hatdet.models.mmdet.layers.init import InitCfg, initialize
from hatdet.registry import register
from hatdet.utils.annotations import AsWritten, Spec

_BN: Spec = {"type": "BN"}
_RELU: Spec = {"type": "ReLU"}


@register(scope="mmdet")
class ASPP(nn.Module):
    """Atrous spatial pyramid pooling as DetectoRS has it (arXiv 2006.02334, section 3.1).

    Convolutions at several dilations, beside each other, the last of them of the mean of the map. State: ``aspp``.

    Args:
        in_channels: of the map.
        out_channels: of each convolution; None: so many that the block keeps the channels.
        dilations: of each; the last one is 1.
        init_cfg: of first weights; None: He's.
    """

    one_operator = True  # a quantizer refuses it by its name, not by what it is made of

    def __init__(
        self,
        in_channels: int,
        out_channels: int | None = None,
        dilations: Sequence[int] = (1, 3, 6, 1),
        init_cfg: Annotated[InitCfg, AsWritten] = None,
    ) -> None:
        super().__init__()
        if dilations[-1] != 1:
            raise ValueError(f"dilations={tuple(dilations)}: the last one is of the mean; write 1 there")
        outputs = in_channels // len(dilations) if out_channels is None else out_channels
        self.aspp = nn.ModuleList(
            nn.Conv2d(in_channels, outputs, 1 if d == 1 else 3, dilation=d, padding=0 if d == 1 else d)
            for d in dilations
        )
        self.gap = nn.AdaptiveAvgPool2d(1)
        self.relus = nn.ModuleList(nn.ReLU(inplace=True) for _ in dilations)
        initialize(self, {"type": "Kaiming", "layer": "Conv2d"} if init_cfg is None else init_cfg)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, out_channels * len(dilations), H, W)."""
        inputs = [x] * (len(self.aspp) - 1) + [self.gap(x)]
        maps = [relu(conv(given)) for conv, relu, given in zip(self.aspp, self.relus, inputs)]
        maps[-1] = maps[-1].expand(-1, -1, *x.shape[2:])
        return torch.cat(maps, dim=1)


@register(scope="mmdet")
class SPP(nn.Module):
    """Spatial pyramid pooling that keeps the size (arXiv 1406.4729, as in YOLOv3-SPP).

    A 1x1 convolution, the largest values of windows of several sizes beside it, a 1x1 convolution.

    Args:
        in_channels: of the map.
        out_channels: None: the same.
        kernel_sizes: sides of the windows, odd.
        norm_cfg, act_cfg: of both convolutions.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int | None = None,
        kernel_sizes: Sequence[int] = (5, 9, 13),
        norm_cfg: Spec | None = _BN,
        act_cfg: Spec | None = _RELU,
    ) -> None:
        super().__init__()
        between = in_channels // 2
        self.conv1 = ConvModule(in_channels, between, 1, norm_cfg=norm_cfg, act_cfg=act_cfg)
        self.poolings = nn.ModuleList(nn.MaxPool2d(side, stride=1, padding=side // 2) for side in kernel_sizes)
        self.conv2 = ConvModule(
            between * (len(kernel_sizes) + 1), out_channels or in_channels, 1, norm_cfg=norm_cfg, act_cfg=act_cfg
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H, W)."""
        x = self.conv1(x)
        return self.conv2(torch.cat([x, *(pooling(x) for pooling in self.poolings)], dim=1))  # type: ignore[no-any-return]


@register(scope="mmdet")
class RFB(nn.Module):
    """Receptive field block (arXiv 1711.07767, figure 4a).

    Three branches, each a larger kernel and then a 3x3 convolution dilated as much, beside each other, through a 1x1
    convolution, times ``scale``, and the identity.

    Args:
        in_channels: of the map.
        out_channels: None: the same.
        scale: of the branches.
        norm_cfg, act_cfg: of the convolutions.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int | None = None,
        scale: float = 0.1,
        norm_cfg: Spec | None = _BN,
        act_cfg: Spec | None = _RELU,
    ) -> None:
        super().__init__()
        outputs, width, self.scale = out_channels or in_channels, max(in_channels // 8, 1), scale

        def conv(inputs: int, outputs: int, side: int, dilation: int = 1, acts: bool = True) -> ConvModule:
            padding = dilation * (side // 2)
            act = act_cfg if acts else None
            return ConvModule(
                inputs, outputs, side, padding=padding, dilation=dilation, norm_cfg=norm_cfg, act_cfg=act
            )

        self.branches = nn.ModuleList(
            [
                nn.Sequential(conv(in_channels, 2 * width, 1), conv(2 * width, 2 * width, 3, 1, acts=False)),
                nn.Sequential(
                    conv(in_channels, width, 1), conv(width, 2 * width, 3), conv(2 * width, 2 * width, 3, 3, acts=False)
                ),
                nn.Sequential(
                    conv(in_channels, width, 1), conv(width, width * 3 // 2, 3), conv(width * 3 // 2, 2 * width, 3),
                    conv(2 * width, 2 * width, 3, 5, acts=False),
                ),
            ]
        )  # fmt: skip
        self.linear = conv(6 * width, outputs, 1, acts=False)
        self.shortcut = nn.Identity() if outputs == in_channels else conv(in_channels, outputs, 1, acts=False)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H, W)."""
        out = self.linear(torch.cat([branch(x) for branch in self.branches], dim=1))
        return self.relu(out * self.scale + self.shortcut(x))  # type: ignore[no-any-return]
