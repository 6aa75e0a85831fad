"""The searched pyramid of NAS-FCOS (arXiv 1906.04423)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from hatdet.models.mmdet.layers.conv import ConvModule
from hatdet.models.mmdet.layers.csp.defaults import BN
from hatdet.models.mmdet.layers.init import caffe2_xavier_init
from hatdet.models.mmdet.necks.levels import continued, end_of_levels
from hatdet.models.mmdet.necks.searched.merge_cells import ConcatCell
from hatdet.registry import register
from hatdet.utils.annotations import Spec

# Cells in their order: numbers of the maps that go in (the adapted ones are 0 to 2, results follow), and whether the
# second goes through a convolution.
_CELLS = {
    "c22_1": (2, 2, True),
    "c22_2": (2, 2, True),
    "c32": (3, 2, False),
    "c02": (0, 2, False),
    "c42": (4, 2, True),
    "c36": (3, 6, True),
    "c61": (6, 1, True),
}
_RELU: Spec = {"type": "ReLU", "inplace": False}


@register(scope="mmdet")
class NASFCOS_FPN(nn.Module):
    """Adapted maps (``adapt_convs``), seven concatenating cells (``fpn``), the results on the sizes of the backbone's
    maps 1 to 3, further maps by stride-2 convolutions (``extra_downsamples``).

    Args:
        in_channels: of all the backbone's maps, four.
        out_channels: of each map returned.
        num_outs: maps returned.
        start_level, end_level: first and last map that is used; three have to be.
        add_extra_convs: without effect, as in MMDetection: further maps are always made by convolutions.
        conv_cfg, norm_cfg: of the cells' input convolutions.

    Raises:
        ValueError: levels that do not exist, or not three of them.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        num_outs: int,
        start_level: int = 1,
        end_level: int = -1,
        add_extra_convs: bool | str = False,
        conv_cfg: Spec | None = None,
        norm_cfg: Spec | None = None,
        init_cfg: None = None,
    ) -> None:
        super().__init__()
        end = end_of_levels(in_channels, num_outs, start_level, end_level)
        used = list(in_channels[start_level:end])
        if len(used) != 3:
            raise ValueError(f"start_level and end_level use {len(used)} maps; the cells of NASFCOS_FPN join three")
        self.in_channels, self.out_channels, self.num_outs = list(in_channels), out_channels, num_outs
        self.start_level, self.backbone_end_level = start_level, end
        self.adapt_convs = nn.ModuleList(
            ConvModule(channels, out_channels, 1, bias=False, norm_cfg=BN, act_cfg=_RELU) for channels in used
        )
        joined = {"kernel_size": 1, "padding": 0, "bias": False, "groups": out_channels}
        self.fpn = nn.ModuleDict(
            {
                name: ConcatCell(
                    out_channels, out_channels, out_conv_cfg=joined, out_norm_cfg=BN,
                    out_conv_order=("norm", "act", "conv"), with_input1_conv=True, with_input2_conv=second,
                    input_conv_cfg=conv_cfg, input_norm_cfg=norm_cfg,
                )
                for name, (_, _, second) in _CELLS.items()
            }
        )  # fmt: skip
        self.extra_downsamples = nn.ModuleList(
            ConvModule(
                out_channels, out_channels, 3, stride=2, padding=1, act_cfg=None if i == 0 else _RELU,
                order=("act", "norm", "conv"),
            )
            for i in range(num_outs - len(used))
        )  # fmt: skip
        for convs in (self.adapt_convs, self.extra_downsamples):
            for module in convs.modules():
                if isinstance(module, nn.Conv2d):
                    caffe2_xavier_init(module)

    def output_strides(self, in_strides: Sequence[int]) -> tuple[int, ...]:
        """Strides of the maps returned for maps of ``in_strides``."""
        return continued(in_strides[1:], 0, 3, self.num_outs)

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        used = feats[self.start_level : self.backbone_end_level]
        maps: list[Any] = [conv(x) for conv, x in zip(self.adapt_convs, used, strict=True)]
        for name, (first, second, _) in _CELLS.items():
            maps.append(self.fpn[name](maps[first], maps[second]))
        outs = []
        for x, size in zip((maps[9], maps[8], maps[7]), (x.shape[2:] for x in feats[1:4]), strict=True):
            total = x + F.interpolate(maps[5], size=x.shape[2:], mode="bilinear", align_corners=False)
            outs.append(F.interpolate(total, size=size, mode="bilinear", align_corners=False))
        for conv in self.extra_downsamples:
            outs.append(conv(outs[-1]))
        return tuple(outs)
