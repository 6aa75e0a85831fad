"""The feature pyramid network (arXiv 1612.03144) with all of MMDetection's options."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from hatdet.models.mmdet.layers.conv import ConvModule
from hatdet.models.mmdet.layers.csp.defaults import XAVIER
from hatdet.models.mmdet.layers.init import initialize
from hatdet.models.mmdet.necks.levels import continued, end_of_levels
from hatdet.registry import register
from hatdet.utils.annotations import Spec

NEAREST: Spec = {"mode": "nearest"}
_EXTRA = ("on_input", "on_lateral", "on_output")


@register(scope="mmdet")
class FPN(nn.Module):
    """Laterals, upsampling and addition from the top, a 3x3 convolution on each level (``lateral_convs``,
    ``fpn_convs``).

    Tuple of (B, in_channels[i], H_i, W_i), finest first -> tuple of ``num_outs`` maps with ``out_channels`` channels.

    Args:
        in_channels: of all the backbone's maps.
        out_channels: of each map returned.
        num_outs: maps returned; those beyond the backbone's have half the size of the one before.
        start_level, end_level: first and last map that is used; -1: the last there is.
        add_extra_convs: how maps beyond the backbone's are made: False: a max pool of 1 with stride 2; ``on_input``
            (True): stride-2 convolutions from the backbone's last map, ``on_lateral``: from its lateral,
            ``on_output``: from the last output.
        relu_before_extra_convs: ReLU before each of these convolutions but the first.
        no_norm_on_lateral: normalization in ``fpn_convs`` only.
        conv_cfg, norm_cfg, act_cfg: see :class:`ConvModule`.
        upsample_cfg: arguments of ``F.interpolate``; without ``scale_factor`` to the size of the finer map.

    Raises:
        ValueError: levels that do not exist, or a number of outputs that they cannot have.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        num_outs: int,
        start_level: int = 0,
        end_level: int = -1,
        add_extra_convs: bool | str = False,
        relu_before_extra_convs: bool = False,
        no_norm_on_lateral: bool = False,
        conv_cfg: Spec | None = None,
        norm_cfg: Spec | None = None,
        act_cfg: Spec | None = None,
        upsample_cfg: Spec = NEAREST,
        init_cfg: Spec | list[Any] | None = XAVIER,
    ) -> None:
        super().__init__()
        end = end_of_levels(in_channels, num_outs, start_level, end_level)
        self.add_extra_convs = "on_input" if add_extra_convs is True else add_extra_convs
        if self.add_extra_convs and self.add_extra_convs not in _EXTRA:
            raise ValueError(f"add_extra_convs={add_extra_convs!r}; write False, True or one of {', '.join(_EXTRA)}")
        self.in_channels, self.out_channels, self.num_outs = list(in_channels), out_channels, num_outs
        self.start_level, self.backbone_end_level = start_level, end
        self.relu_before_extra_convs, self.upsample_cfg = relu_before_extra_convs, dict(upsample_cfg)
        used = self.in_channels[start_level:end]
        parts: dict[str, Any] = {"conv_cfg": conv_cfg, "norm_cfg": norm_cfg, "act_cfg": act_cfg, "inplace": False}
        lateral = {**parts, "norm_cfg": None} if no_norm_on_lateral else parts
        self.lateral_convs = nn.ModuleList(ConvModule(channels, out_channels, 1, **lateral) for channels in used)
        self.fpn_convs = nn.ModuleList(ConvModule(out_channels, out_channels, 3, padding=1, **parts) for _ in used)
        for i in range(num_outs - len(used) if self.add_extra_convs else 0):
            source = used[-1] if i == 0 and self.add_extra_convs == "on_input" else out_channels
            self.fpn_convs.append(ConvModule(source, out_channels, 3, stride=2, padding=1, **parts))
        initialize(self, init_cfg)

    def output_strides(self, in_strides: Sequence[int]) -> tuple[int, ...]:
        """Strides of the maps returned for maps of ``in_strides``."""
        return continued(in_strides, self.start_level, self.backbone_end_level, self.num_outs)

    def laterals(self, feats: Sequence[Tensor]) -> list[Tensor]:
        """The maps that are used, in ``out_channels``."""
        used = feats[self.start_level : self.backbone_end_level]
        return [conv(x) for conv, x in zip(self.lateral_convs, used, strict=True)]

    def onto(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """``fine``, and ``coarse`` on its size."""
        size: dict[str, Any] = {} if "scale_factor" in self.upsample_cfg else {"size": fine.shape[2:]}
        return fine + F.interpolate(coarse, **size, **self.upsample_cfg)

    def top_down(self, laterals: list[Tensor]) -> list[Tensor]:
        """Laterals with all that is coarser added."""
        merged = laterals[-1:]
        for lateral in reversed(laterals[:-1]):
            merged.insert(0, self.onto(merged[0], lateral))
        return merged

    def extended(self, outs: list[Tensor], feats: Sequence[Tensor], lateral: Tensor) -> tuple[Tensor, ...]:
        """``outs``, and the maps beyond the backbone's; ``lateral`` is the coarsest."""
        used = len(outs)
        if not self.add_extra_convs:
            for _ in range(self.num_outs - used):
                outs.append(F.max_pool2d(outs[-1], 1, stride=2))
            return tuple(outs)
        sources = {"on_input": feats[self.backbone_end_level - 1], "on_lateral": lateral, "on_output": outs[-1]}
        source = sources[str(self.add_extra_convs)]
        for i in range(used, self.num_outs):
            if i > used:
                source = F.relu(outs[-1]) if self.relu_before_extra_convs else outs[-1]
            outs.append(self.fpn_convs[i](source))
        return tuple(outs)

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        laterals = self.top_down(self.laterals(feats))
        outs = [conv(x) for conv, x in zip(self.fpn_convs, laterals)]
        return self.extended(outs, feats, laterals[-1])
