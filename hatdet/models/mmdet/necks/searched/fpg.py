"""Feature pyramid grids (arXiv 2004.03580)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from hatdet.models.mmdet.layers.conv import ConvModule
from hatdet.models.mmdet.layers.csp.defaults import CAFFE2_XAVIER
from hatdet.models.mmdet.layers.init import initialize
from hatdet.models.mmdet.necks.levels import continued, end_of_levels
from hatdet.registry import register
from hatdet.utils.annotations import Spec

_SAME_UP: Spec = {"type": "conv", "kernel_size": 3, "stride": 2, "padding": 1}
_LATERAL: Spec = {"type": "conv", "kernel_size": 1}
_DOWN: Spec = {"type": "conv", "kernel_size": 3}
_SKIP: Spec = {"type": "identity"}
_OUTPUT: Spec = {"type": "last_conv", "kernel_size": 3}
_INIT: list[Spec] = [
    CAFFE2_XAVIER,
    {"type": "Constant", "layer": ["_BatchNorm", "_InstanceNorm", "GroupNorm", "LayerNorm"], "val": 1.0},
]


class UpInterpolationConv(nn.Module):
    """Interpolation, then a convolution (``conv``) with ``options`` of :class:`ConvModule`."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        scale_factor: int = 2,
        mode: str = "nearest",
        align_corners: bool | None = None,
        kernel_size: int = 3,
        **options: Any,
    ) -> None:
        super().__init__()
        self.scale_factor, self.mode, self.align_corners = scale_factor, mode, align_corners
        self.conv = ConvModule(in_channels, out_channels, kernel_size, padding=(kernel_size - 1) // 2, **options)

    def forward(self, x: Tensor) -> Tensor:
        x = F.interpolate(x, scale_factor=self.scale_factor, mode=self.mode, align_corners=self.align_corners)
        return self.conv(x)  # type: ignore[no-any-return]


class LastConv(nn.Module):
    """A convolution (``conv_out``) of the last of several maps."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3, **options: Any) -> None:
        super().__init__()
        self.conv_out = ConvModule(in_channels, out_channels, kernel_size, padding=(kernel_size - 1) // 2, **options)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        return self.conv_out(maps[-1])  # type: ignore[no-any-return]


_TRANSITIONS: dict[str, Any] = {
    "conv": ConvModule,
    "interpolation_conv": UpInterpolationConv,
    "last_conv": LastConv,
    "identity": lambda in_channels, out_channels: nn.Identity(),
}


def _transition(name: str, cfg: Mapping[str, Any], in_channels: int, out_channels: int) -> nn.Module:
    options = dict(cfg)
    kind = options.pop("type", None)
    if kind not in _TRANSITIONS:
        raise ValueError(f"{name} has the type {kind!r}; write one of {', '.join(_TRANSITIONS)}")
    return _TRANSITIONS[kind](in_channels, out_channels, **options)  # type: ignore[no-any-return]


@register(scope="mmdet")
class FPG(nn.Module):
    """``stack_times`` pathways side by side, each a pyramid; every map is the sum of what transitions make of its
    neighbours (``lateral_convs``, ``extra_downsamples``, ``fpn_transitions``, ``output_transition``).

    A transition is a dict: ``type`` conv, interpolation_conv, last_conv or identity, and its arguments; None: none.

    Args:
        in_channels: of all the backbone's maps.
        out_channels: of each map returned.
        num_outs: maps returned.
        stack_times: pathways.
        paths: of each, ``bu`` (from the finest map up) or ``td``.
        inter_channels: inside: one number, or one for each map; None: ``out_channels``.
        same_down_trans, same_up_trans: from the map before in the same pathway, downward and upward.
        across_lateral_trans, across_down_trans, across_up_trans: from the same, the coarser and the finer map of the
            pathway before.
        across_skip_trans: from the same map of the first pathway.
        output_trans: at the end.
        start_level, end_level: first and last map that is used; -1: the last there is.
        add_extra_convs: maps beyond the backbone's by stride-2 convolutions, not by max pools of 1.
        norm_cfg: without effect: transitions have their own.
        skip_inds: of each map, the pathways in which it stays as it is.

    Raises:
        ValueError: lists that do not fit each other, or another type of transition.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        num_outs: int,
        stack_times: int,
        paths: Sequence[Literal["bu", "td"]],
        inter_channels: int | Sequence[int] | None = None,
        same_down_trans: Spec | None = None,
        same_up_trans: Spec | None = _SAME_UP,
        across_lateral_trans: Spec = _LATERAL,
        across_down_trans: Spec | None = _DOWN,
        across_up_trans: Spec | None = None,
        across_skip_trans: Spec | None = _SKIP,
        output_trans: Spec = _OUTPUT,
        start_level: int = 0,
        end_level: int = -1,
        add_extra_convs: bool = False,
        norm_cfg: Spec | None = None,
        skip_inds: Sequence[Sequence[int]] | None = None,
        init_cfg: Spec | list[Any] | None = _INIT,  # type: ignore[assignment]
    ) -> None:
        super().__init__()
        end = end_of_levels(in_channels, num_outs, start_level, end_level)
        if len(paths) != stack_times:
            raise ValueError(f"paths has {len(paths)} entries for stack_times={stack_times}; write as many")
        if skip_inds is None or len(skip_inds) < num_outs:
            raise ValueError(f"skip_inds needs a list for each of num_outs={num_outs} maps; write () for none to skip")
        if inter_channels is None or isinstance(inter_channels, int):
            inter_channels = [inter_channels or out_channels] * num_outs
        if len(inter_channels) != num_outs:
            raise ValueError(f"inter_channels has {len(inter_channels)} numbers; write one, or num_outs={num_outs}")
        self.in_channels, self.out_channels, self.num_outs = list(in_channels), out_channels, num_outs
        self.start_level, self.backbone_end_level = start_level, end
        self.paths, self.skip_inds = list(paths), [list(skipped) for skipped in skip_inds]
        used = self.in_channels[start_level:end]
        self.lateral_convs = nn.ModuleList(nn.Conv2d(c, i, 1) for c, i in zip(used, inter_channels))
        self.extra_downsamples = nn.ModuleList(
            nn.Conv2d(inter_channels[i - 1], inter_channels[i], 3, stride=2, padding=1)
            if add_extra_convs
            else nn.MaxPool2d(1, stride=2)
            for i in range(len(used), num_outs)
        )
        # Each from which neighbour: of level i it is level i + step.
        sources = {
            "same_up": (same_up_trans, -1),
            "same_down": (same_down_trans, 1),
            "across_lateral": (across_lateral_trans, 0),
            "across_down": (across_down_trans, 1),
            "across_up": (across_up_trans, -1),
            # Told the channels of the finer level, though it gets its own: of the finest level, those of the coarsest.
            "across_skip": (across_skip_trans, -1),
        }

        def transitions(level: int) -> nn.ModuleDict:
            made = nn.ModuleDict()
            for name, (cfg, step) in sources.items():
                if cfg is not None and (0 <= level + step < num_outs or name == "across_skip"):
                    made[name] = _transition(f"{name}_trans", cfg, inter_channels[level + step], inter_channels[level])
            return made

        self.fpn_transitions = nn.ModuleList(
            nn.ModuleList(nn.ModuleDict() if s in self.skip_inds[i] else transitions(i) for i in range(num_outs))
            for s in range(stack_times)
        )
        self.output_transition = nn.ModuleList(
            _transition("output_trans", output_trans, channels, out_channels) for channels in inter_channels
        )
        initialize(self, init_cfg)

    def output_strides(self, in_strides: Sequence[int]) -> tuple[int, ...]:
        """Strides of the maps returned for maps of ``in_strides``."""
        return continued(in_strides, self.start_level, self.backbone_end_level, self.num_outs)

    def _pathway(self, number: int, first: Sequence[Tensor], before: Sequence[Tensor]) -> list[Tensor]:
        """The maps of a pathway, finest first, of those of the first and of the one before it."""
        down = self.paths[number] == "td"
        made: list[Tensor] = []
        for j in range(self.num_outs):
            if number in self.skip_inds[j]:
                made.append(before[j])
                continue
            level = self.num_outs - 1 - j if down else j
            inputs = {
                "same_down" if down else "same_up": made[-1] if made else None,
                "across_lateral": before[level],
                "across_up": before[level - 1] if level > 0 else None,
                "across_down": before[level + 1] if level < self.num_outs - 1 else None,
                "across_skip": first[level],
            }
            layers: Any = self.fpn_transitions[number][level]  # type: ignore[index]
            parts = [layers[name](x) for name, x in inputs.items() if x is not None and name in layers]
            total = parts[0]
            for part in parts[1:]:
                total = total + part
            made.append(total)
        return made[::-1] if down else made

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        used = feats[self.start_level : self.backbone_end_level]
        maps: list[Tensor] = [conv(x) for conv, x in zip(self.lateral_convs, used, strict=True)]
        for downsample in self.extra_downsamples:
            maps.append(downsample(maps[-1]))
        pathways = [maps]
        for number in range(len(self.paths)):
            pathways.append(self._pathway(number, maps, pathways[-1]))
        return tuple(output([pathway[i] for pathway in pathways]) for i, output in enumerate(self.output_transition))
