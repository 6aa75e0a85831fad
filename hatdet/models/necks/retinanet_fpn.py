"""The feature pyramid of RetinaNet over a backbone's maps (arXiv 1612.03144, 1708.02002)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from hatdet.models.feature_info import FeatureInfo
from hatdet.models.fitting import told
from hatdet.registry import register


@register
class RetinaNetFPN(nn.Module):
    """Laterals, a top-down path, and two more levels from the coarsest map.

    Sequence of (B, in_channels[i], H / in_strides[i], W / in_strides[i]) -> tuple of maps with ``fix_out_channel``
    channels at ``out_strides`` and at twice and four times the largest of them (``feature_info``). Inside, a level is
    the 1x1 lateral of its input plus what comes from the level above: a 1x1 convolution to this level's channels, then
    twice the size (bilinear, ``align_corners=False``). Every level goes out through a 1x1 convolution of its own. Then
    P6 = ReLU(3x3 stride 2 of the coarsest *input*), P7 = 3x3 stride 2 of P6.

    Args:
        in_strides: of all maps that the backbone gives, each twice the one before.
        in_channels: their channels. In a detector's config both may be left out.
        out_strides: which of them become levels: the last ones.
        out_channels: channels of each level inside, that is, of lateral and sum.
        fix_out_channel: channels of every level that goes out; None: as many as inside.

    Raises:
        ValueError: lists that do not fit each other.
    """

    def __init__(
        self,
        *,
        in_strides: Sequence[int] | None = None,
        in_channels: Sequence[int] | None = None,
        out_strides: Sequence[int],
        out_channels: Sequence[int],
        fix_out_channel: int | None = None,
    ) -> None:
        super().__init__()
        in_strides, in_channels = told(in_strides, "in_strides"), told(in_channels, "in_channels")
        _check(in_strides, in_channels, out_strides, out_channels)
        self.in_strides, self.in_channels = tuple(in_strides), tuple(in_channels)
        self.used = [self.in_strides.index(stride) for stride in out_strides]
        outputs = [c if fix_out_channel is None else fix_out_channel for c in out_channels]
        self.lateral_convs = nn.ModuleList(
            nn.Conv2d(in_channels[i], inside, 1) for i, inside in zip(self.used, out_channels, strict=True)
        )
        self.topdown_convs = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in itertools.pairwise(out_channels))
        self.fpn_convs = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in zip(out_channels, outputs, strict=True))
        coarsest = in_channels[self.used[-1]]
        self.p6 = nn.Conv2d(coarsest, outputs[-1], 3, stride=2, padding=1)
        self.p6_relu = nn.ReLU(inplace=True)
        self.p7 = nn.Conv2d(outputs[-1], outputs[-1], 3, stride=2, padding=1)
        top = out_strides[-1]
        self.feature_info = FeatureInfo(
            channels=(*outputs, outputs[-1], outputs[-1]), strides=(*out_strides, 2 * top, 4 * top)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        levels: list[Tensor] = []
        above: Tensor | None = None
        for level in reversed(range(len(self.used))):
            inside = self.lateral_convs[level](feats[self.used[level]])
            if above is not None:
                from_above = self.topdown_convs[level](above)
                inside = inside + F.interpolate(from_above, scale_factor=2.0, mode="bilinear", align_corners=False)
            levels.insert(0, self.fpn_convs[level](inside))
            above = inside
        p6 = self.p6_relu(self.p6(feats[self.used[-1]]))
        return (*levels, p6, self.p7(p6))


def _check(
    in_strides: Sequence[int], in_channels: Sequence[int], out_strides: Sequence[int], out_channels: Sequence[int]
) -> None:
    if len(in_strides) != len(in_channels) or len(out_strides) != len(out_channels) or not out_strides:
        raise ValueError(
            f"as many channels as strides are needed: in_strides={list(in_strides)}, in_channels={list(in_channels)}, "
            f"out_strides={list(out_strides)}, out_channels={list(out_channels)}"
        )
    for name, strides in (("in_strides", in_strides), ("out_strides", out_strides)):
        if any(b != 2 * a for a, b in itertools.pairwise(strides)):
            raise ValueError(f"{name} must double from map to map, got {list(strides)}")
    if out_strides[-1] != in_strides[-1] or out_strides[0] not in in_strides:
        raise ValueError(
            f"out_strides={list(out_strides)} must be the last ones of in_strides={list(in_strides)}: P6 and P7 start "
            "from the coarsest map"
        )
