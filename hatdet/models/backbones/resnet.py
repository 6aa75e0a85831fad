"""ResNet (He et al., "Deep Residual Learning", arXiv 1512.03385), with the parameter names of published weights."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from hatdet.models.backbones.freezing import StagedBackbone
from hatdet.models.feature_info import FeatureInfo
from hatdet.registry import register


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and the identity (figure 5, left): ResNet-18 and -34."""

    expansion = 1

    def __init__(self, in_channels: int, channels: int, stride: int, caffe_style: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu1, self.relu2 = (
            nn.ReLU(inplace=True),
            nn.ReLU(inplace=True),
        )  # one a place: a quantizer tells them apart
        self.downsample = _projection(in_channels, channels * self.expansion, stride)

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        x = self.relu1(self.bn1(self.conv1(x)))
        return self.relu2(self.bn2(self.conv2(x)) + identity)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions and the identity (figure 5, right): ResNet-50 and deeper.

    ``caffe_style`` puts the stride into the first 1x1 convolution, as the paper's own models have it; else it is in
    the 3x3 one, as PyTorch's weights have it.
    """

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int, caffe_style: bool) -> None:
        super().__init__()
        first, second = (stride, 1) if caffe_style else (1, stride)
        self.conv1 = nn.Conv2d(in_channels, channels, 1, stride=first, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride=second, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, channels * self.expansion, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels * self.expansion)
        self.relu1, self.relu2, self.relu3 = (nn.ReLU(inplace=True) for _ in range(3))
        self.downsample = _projection(in_channels, channels * self.expansion, stride)

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        x = self.relu1(self.bn1(self.conv1(x)))
        x = self.relu2(self.bn2(self.conv2(x)))
        return self.relu3(self.bn3(self.conv3(x)) + identity)


def _projection(in_channels: int, channels: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and in_channels == channels:
        return None
    return nn.Sequential(nn.Conv2d(in_channels, channels, 1, stride=stride, bias=False), nn.BatchNorm2d(channels))


_Block = type[BasicBlock] | type[Bottleneck]
ARCHITECTURES: dict[int, tuple[_Block, tuple[int, int, int, int]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
}


@register
class ResNet(StagedBackbone):
    """(B, in_channels, H, W) -> tuple of the maps of ``out_indices``; stage i has stride 4 * 2**i.

    Parameters are named as in torchvision's files (``conv1, bn1, layer1.0.conv1, ...``), so that these load through
    ``LoadCheckpoint`` as they are. Channels: 64, 128, 256, 512 (18, 34) or four times that.

    Args:
        depth: 18, 34, 50 or 101.
        num_stages: stages built, 1 to 4.
        out_indices: stages returned.
        style: ``pytorch`` or ``caffe``, see :class:`Bottleneck`.
        frozen_stages: -1: none; 0: the stem; n: the stem and stages 1 to n keep their weights and statistics.
        norm_eval: batch norms keep the statistics they were loaded with, in training too.
        in_channels: of the images.
        zero_init_residual: blocks start as identities (arXiv 1706.02677, section 5.1).

    Raises:
        ValueError: an unknown depth or style, or a stage that does not exist.
    """

    def __init__(
        self,
        *,
        depth: int,
        num_stages: int = 4,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        style: str = "pytorch",
        frozen_stages: int = -1,
        norm_eval: bool = False,
        zero_init_residual: bool = True,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        if depth not in ARCHITECTURES:
            raise ValueError(f"ResNet has no depth {depth}; write one of {', '.join(map(str, ARCHITECTURES))}")
        if style not in ("pytorch", "caffe"):
            raise ValueError(f"unknown style {style!r}; write 'pytorch' or 'caffe'")
        if not 1 <= num_stages <= 4 or not out_indices or any(not 0 <= i < num_stages for i in out_indices):
            raise ValueError(f"out_indices {list(out_indices)} do not fit num_stages={num_stages} (1 to 4 stages)")
        if not -1 <= frozen_stages <= num_stages:
            raise ValueError(f"frozen_stages is between -1 and {num_stages}, got {frozen_stages}")
        block, counts = ARCHITECTURES[depth]
        self.conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.stage_names = [f"layer{i + 1}" for i in range(num_stages)]
        channels = 64
        for i, name in enumerate(self.stage_names):
            width, stride = 64 * 2**i, 1 if i == 0 else 2
            blocks = []
            for j in range(counts[i]):
                blocks.append(block(channels, width, stride if j == 0 else 1, style == "caffe"))
                channels = width * block.expansion
            self.add_module(name, nn.Sequential(*blocks))
        self.in_channels, self.out_indices = in_channels, tuple(out_indices)
        self.feature_info = FeatureInfo(
            channels=tuple(64 * 2**i * block.expansion for i in self.out_indices),
            strides=tuple(4 * 2**i for i in self.out_indices),
        )
        self._init_weights(zero_init_residual)
        stages = [("conv1", "bn1"), *((name,) for name in self.stage_names)]
        self.set_stages(stages, frozen_stages + 1, norm_eval)

    def _init_weights(self, zero_init_residual: bool) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if zero_init_residual and isinstance(module, (BasicBlock, Bottleneck)):
                nn.init.zeros_(module.bn3.weight if isinstance(module, Bottleneck) else module.bn2.weight)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        maps = []
        for name in self.stage_names:
            x = self.get_submodule(name)(x)
            maps.append(x)
        return tuple(maps[i] for i in self.out_indices)
