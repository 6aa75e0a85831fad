"""PP-LCNet (arXiv 2109.15099): depthwise separable convolutions in a row, made for CPUs."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from hatdet.models.backbones.freezing import StagedBackbone
from hatdet.models.feature_info import FeatureInfo
from hatdet.models.layers.attention import SqueezeExcitation
from hatdet.models.layers.channels import divisible
from hatdet.models.layers.conv import ConvModule
from hatdet.registry import register

# Table 1 of the paper: side of the depthwise kernel, channels given, stride, squeeze-and-excitation; by stage.
_STAGES: dict[str, tuple[tuple[int, int, int, bool], ...]] = {
    "blocks2": ((3, 32, 1, False),),
    "blocks3": ((3, 64, 2, False), (3, 64, 1, False)),
    "blocks4": ((3, 128, 2, False), (3, 128, 1, False)),
    "blocks5": ((3, 256, 2, False), *((5, 256, 1, False),) * 5),
    "blocks6": ((5, 512, 2, True), (5, 512, 1, True)),
}
_STRIDES = {"blocks2": 2, "blocks3": 4, "blocks4": 8, "blocks5": 16, "blocks6": 32}


class DepthwiseSeparable(nn.Module):
    """Depthwise ``dw_conv``, ``se`` if wanted, pointwise ``pw_conv``; both convolutions with norm and activation.

    (B, in_channels, H, W) -> (B, out_channels, ceil(H / stride), ceil(W / stride)).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        channel_attention: bool = False,
        activation: str = "Hardswish",
    ) -> None:
        super().__init__()
        self.dw_conv = ConvModule(
            in_channels, in_channels, kernel_size, stride=stride, groups=in_channels, activation=activation
        )
        self.se = SqueezeExcitation(in_channels) if channel_attention else nn.Identity()
        self.pw_conv = ConvModule(in_channels, out_channels, 1, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        return self.pw_conv(self.se(self.dw_conv(x)))


@register
class LCNet(StagedBackbone):
    """(B, in_channels, H, W) -> tuple of the maps of ``out_indices``.

    Stages 2 to 6 have 32, 64, 128, 256, 512 channels (times ``widen_factor``) at strides 2, 4, 8, 16, 32. Parameters
    are named as in PaddleDetection's files (``conv1.conv``, ``blocks2.0.dw_conv.bn``, ``blocks6.0.se.conv1``).

    Args:
        widen_factor: multiplies the channels; they stay multiples of 8.
        out_indices: stages returned.
        channel_attention: squeeze-and-excitation in stage 6, as published; False for NPUs that would leave it to the
            CPU.
        activation: class name of ``torch.nn``; Hardswish as published, ReLU6 for NPUs.
        frozen_stages: -1: none; 0: the stem; n: the stem and the first n stages keep weights and statistics.
        norm_eval: batch norms keep the statistics they were loaded with, in training too.
        in_channels: of the images.

    Raises:
        ValueError: a stage that does not exist.
    """

    def __init__(
        self,
        *,
        widen_factor: float = 1.0,
        out_indices: Sequence[int] = (4, 5, 6),
        channel_attention: bool = True,
        activation: str = "Hardswish",
        frozen_stages: int = -1,
        norm_eval: bool = False,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        if not out_indices or any(not 2 <= i <= 6 for i in out_indices) or not -1 <= frozen_stages <= 5:
            raise ValueError(
                f"LCNet has the stages 2 to 6, got out_indices={list(out_indices)}, frozen_stages={frozen_stages} "
                "(at most 5: all)"
            )
        width = divisible(16 * widen_factor)
        self.conv1 = ConvModule(in_channels, width, 3, stride=2, activation=activation)
        widths = {}
        for name, blocks in _STAGES.items():
            if int(name[-1]) > max(out_indices):
                break
            layers = []
            for kernel, base, stride, attention in blocks:
                given, width = width, divisible(base * widen_factor)
                layers.append(
                    DepthwiseSeparable(
                        given, width, kernel, stride=stride, channel_attention=attention and channel_attention,
                        activation=activation,
                    )
                )  # fmt: skip
            self.add_module(name, nn.Sequential(*layers))
            widths[name] = width
        chosen = [f"blocks{i}" for i in out_indices]
        self.feature_info = FeatureInfo(
            channels=tuple(widths[name] for name in chosen), strides=tuple(_STRIDES[name] for name in chosen)
        )
        self.in_channels, self.out_indices = in_channels, tuple(out_indices)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
        self.set_stages([(name,) for name in ("conv1", *widths)], frozen_stages + 1, norm_eval)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        maps = []
        for (name,) in self.stages:
            x = self.get_submodule(name)(x)
            maps.append(x)
        return tuple(maps[i - 1] for i in self.out_indices)
