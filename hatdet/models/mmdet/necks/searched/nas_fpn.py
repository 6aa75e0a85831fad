"""The searched pyramid NAS-FPN (arXiv 1904.07392)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from hatdet.models.mmdet.layers.conv import ConvModule
from hatdet.models.mmdet.layers.csp.defaults import CAFFE2_XAVIER
from hatdet.models.mmdet.layers.init import initialize
from hatdet.models.mmdet.necks.levels import continued, end_of_levels
from hatdet.models.mmdet.necks.searched.merge_cells import GlobalPoolingCell, SumCell
from hatdet.registry import register
from hatdet.utils.annotations import Spec

# Figure 6 of the paper: kind of cell, levels of its inputs, level of its result.
_CELLS = ("gp_64_4", "sum_44_4", "sum_43_3", "sum_34_4", "gp_43_5", "sum_55_5", "gp_54_7", "sum_77_7", "gp_75_6")
_PLAIN = ("gp_43_5", "gp_54_7")  # without a convolution: a sum with its own level follows


@register(scope="mmdet")
class NASFPN(nn.Module):
    """Laterals, two further maps, and ``stack_times`` the same nine merging cells (``lateral_convs``,
    ``extra_downsamples``, ``fpn_stages``).

    Args:
        in_channels: of all the backbone's maps.
        out_channels: of each map returned.
        num_outs: maps returned: five, P3 to P7.
        stack_times: how often.
        start_level, end_level: first and last map that is used; -1: the last there is.
        norm_cfg: see :class:`ConvModule`.

    Raises:
        ValueError: levels that do not exist, or another number of outputs than five.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        num_outs: int,
        stack_times: int,
        start_level: int = 0,
        end_level: int = -1,
        norm_cfg: Spec | None = None,
        init_cfg: Spec | list[Any] | None = CAFFE2_XAVIER,
    ) -> None:
        super().__init__()
        end = end_of_levels(in_channels, num_outs, start_level, end_level)
        if num_outs != 5:
            raise ValueError(f"num_outs={num_outs}; the cells of NASFPN join five maps: write 5")
        self.in_channels, self.out_channels, self.num_outs = list(in_channels), out_channels, num_outs
        self.start_level, self.backbone_end_level = start_level, end
        used = self.in_channels[start_level:end]
        parts: dict[str, Any] = {"norm_cfg": norm_cfg, "act_cfg": None}
        self.lateral_convs = nn.ModuleList(ConvModule(channels, out_channels, 1, **parts) for channels in used)
        self.extra_downsamples = nn.ModuleList(
            nn.Sequential(ConvModule(out_channels, out_channels, 1, **parts), nn.MaxPool2d(2, 2))
            for _ in range(num_outs - len(used))
        )

        def cell(name: str) -> nn.Module:
            kind = GlobalPoolingCell if name.startswith("gp") else SumCell
            return kind(out_channels, out_channels, with_out_conv=name not in _PLAIN, out_norm_cfg=norm_cfg)

        self.fpn_stages = nn.ModuleList(
            nn.ModuleDict({name: cell(name) for name in _CELLS}) for _ in range(stack_times)
        )
        initialize(self, init_cfg)

    def output_strides(self, in_strides: Sequence[int]) -> tuple[int, ...]:
        """Strides of the maps returned for maps of ``in_strides``."""
        return continued(in_strides, self.start_level, self.backbone_end_level, self.num_outs)

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        used = feats[self.start_level : self.backbone_end_level]
        maps = [conv(x) for conv, x in zip(self.lateral_convs, used, strict=True)]
        for downsample in self.extra_downsamples:
            maps.append(downsample(maps[-1]))
        sizes = [x.shape[-2:] for x in maps]
        p3, p4, p5, p6, p7 = maps

        def merge(cells: Any, name: str, first: Tensor, second: Tensor) -> Tensor:
            return cells[name](first, second, out_size=sizes[int(name[-1]) - 3])  # type: ignore[no-any-return]

        for stage in self.fpn_stages:
            inner = merge(stage, "sum_44_4", merge(stage, "gp_64_4", p6, p4), p4)
            p3 = merge(stage, "sum_43_3", inner, p3)
            p4 = merge(stage, "sum_34_4", p3, inner)
            p5 = merge(stage, "sum_55_5", p5, merge(stage, "gp_43_5", p4, p3))
            p7 = merge(stage, "sum_77_7", p7, merge(stage, "gp_54_7", p5, inner))
            p6 = merge(stage, "gp_75_6", p7, p5)
        return p3, p4, p5, p6, p7
