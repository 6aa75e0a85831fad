"""The feature pyramid network (Lin et al., arXiv 1612.03144), with the options and names of MMDetection's."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from hatdet.models.fitting import doubling, told
from hatdet.registry import register
from hatdet.utils.errors import did_you_mean

_EXTRA = ("on_input", "on_lateral", "on_output")


class _Conv(nn.Module):
    """A convolution with bias under the name ``conv``, as MMDetection's ConvModule without norm has it."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride=stride, padding=kernel_size // 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)  # type: ignore[no-any-return]


@register
class FPN(nn.Module):
    """1x1 laterals, nearest upsampling by 2 and addition from the top, a 3x3 convolution on each level.

    Tuple of (B, in_channels[i], H_i, W_i), each half the size of the one before -> tuple of ``num_outs`` maps with
    ``out_channels`` channels.

    Args:
        in_channels: channels of all the backbone's maps, finest first. In a detector's config it may be left out.
        out_channels: channels of each map returned.
        num_outs: maps returned; those beyond the backbone's have half the size of the one before.
        start_level: first map that is used.
        end_level: last map that is used; -1: all.
        add_extra_convs: how maps beyond the backbone's are made: False: a max pool of 1 with stride 2; ``on_input``
            (True): stride-2 convolutions from the last map of the backbone, ``on_lateral``: from its lateral,
            ``on_output``: from the last output.
        relu_before_extra_convs: ReLU between these convolutions (all but before the first).

    Raises:
        ValueError: levels that do not exist, or fewer outputs than levels.
    """

    def __init__(
        self,
        *,
        in_channels: Sequence[int] | None = None,
        out_channels: int,
        num_outs: int,
        start_level: int = 0,
        end_level: int = -1,
        add_extra_convs: bool | str = False,
        relu_before_extra_convs: bool = False,
    ) -> None:
        super().__init__()
        in_channels = told(in_channels, "in_channels")
        last = len(in_channels) if end_level in (-1, len(in_channels) - 1) else end_level + 1
        if not 0 <= start_level < last <= len(in_channels):
            raise ValueError(
                f"start_level={start_level}, end_level={end_level} do not fit the {len(in_channels)} maps {in_channels}"
            )
        used = list(in_channels[start_level:last])
        if num_outs < len(used) or (last < len(in_channels) and num_outs != len(used)):
            raise ValueError(f"num_outs={num_outs} does not fit the {len(used)} levels that are used")
        extra = "on_input" if add_extra_convs is True else add_extra_convs
        if extra and extra not in _EXTRA:
            raise ValueError(
                f"unknown add_extra_convs {extra!r}{did_you_mean(str(extra), _EXTRA)}; False or one of "
                f"{', '.join(_EXTRA)}"
            )
        self.in_channels, self.out_channels = tuple(in_channels), out_channels
        self.start_level, self.num_levels, self.num_outs = start_level, len(used), num_outs
        self.extra = extra or None
        self.relu_before_extra_convs = relu_before_extra_convs
        self.lateral_convs = nn.ModuleList(_Conv(c, out_channels, 1) for c in used)
        self.fpn_convs = nn.ModuleList(_Conv(out_channels, out_channels, 3) for _ in used)
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")
        self.pool = nn.MaxPool2d(1, stride=2)
        if self.extra:
            for i in range(num_outs - len(used)):
                source = used[-1] if i == 0 and self.extra == "on_input" else out_channels
                self.fpn_convs.append(_Conv(source, out_channels, 3, stride=2))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def output_strides(self, in_strides: Sequence[int]) -> tuple[int, ...]:
        """Strides of the maps returned for maps of ``in_strides``.

        Raises:
            MisfitError: a map that is used and is not half the size of the one before.
        """
        strides = list(doubling(in_strides[self.start_level : self.start_level + self.num_levels]))
        while len(strides) < self.num_outs:
            strides.append(2 * strides[-1])
        return tuple(strides)

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        used = feats[self.start_level : self.start_level + self.num_levels]
        laterals = [conv(x) for conv, x in zip(self.lateral_convs, used, strict=True)]
        for i in range(self.num_levels - 1, 0, -1):
            laterals[i - 1] = laterals[i - 1] + self.upsample(laterals[i])
        outs = [self.fpn_convs[i](laterals[i]) for i in range(self.num_levels)]
        if self.extra is None:
            for _ in range(self.num_outs - self.num_levels):
                outs.append(self.pool(outs[-1]))
            return tuple(outs)
        source = {"on_input": used[-1], "on_lateral": laterals[-1], "on_output": outs[-1]}[self.extra]
        for i in range(self.num_levels, self.num_outs):
            if i > self.num_levels:
                source = F.relu(outs[-1]) if self.relu_before_extra_convs else outs[-1]
            outs.append(self.fpn_convs[i](source))
        return tuple(outs)
