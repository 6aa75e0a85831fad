"""A stage of a residual network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from hatdet.models.mmdet.layers.conv import build_conv
from hatdet.models.mmdet.layers.init import InitCfg, initialize
from hatdet.models.mmdet.layers.norm import build_norm, norm_name

BN: Mapping[str, Any] = {"type": "BN"}


def build_downsample(
    in_channels: int,
    channels: int,
    stride: int,
    avg_down: bool = False,
    conv_cfg: Mapping[str, Any] | None = None,
    norm_cfg: Mapping[str, Any] = BN,
    always_pool: bool = True,
) -> nn.Sequential | None:
    """What the identity of a stage's first block goes through; None where its shape stays.

    Args:
        avg_down: a mean of ``stride`` x ``stride`` positions, then a 1x1 convolution, in the place of a 1x1 convolution
            with a stride (ResNet-D, arXiv 1812.01187).
        always_pool: the mean is there with a stride of 1, too, where it does nothing: names of the state count it.
    """
    if stride == 1 and in_channels == channels:
        return None
    layers: list[nn.Module] = []
    pooled = avg_down and (stride != 1 or always_pool)
    if pooled:
        layers.append(nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False))
    layers.append(build_conv(conv_cfg, in_channels, channels, 1, stride=1 if pooled else stride, bias=False))
    return nn.Sequential(*layers, build_norm(norm_cfg, channels))


def without_fallback(dcn: Mapping[str, Any]) -> dict[str, Any]:
    """``dcn`` of a block that has the deformable convolution whatever its stride."""
    return {key: value for key, value in dcn.items() if key != "fallback_on_stride"}


class ResLayer(nn.Sequential):
    """``num_blocks`` residual blocks, of which the first (or the last) has the stride and changes the channels.

    Args:
        block: class of the blocks.
        inplanes: channels of the map that comes in.
        planes: the block gives ``planes * block.expansion`` channels.
        stride: of the stage.
        avg_down, always_pool, conv_cfg, norm_cfg: see :func:`build_downsample`; the latter two are of the blocks, too.
        downsample_first: False: the last block has the stride (Hourglass).
        block_options: further arguments of every block.
    """

    def __init__(
        self,
        block: Any,
        inplanes: int,
        planes: int,
        num_blocks: int,
        stride: int = 1,
        avg_down: bool = False,
        conv_cfg: Mapping[str, Any] | None = None,
        norm_cfg: Mapping[str, Any] = BN,
        downsample_first: bool = True,
        always_pool: bool = True,
        **block_options: Any,
    ) -> None:
        out_channels = planes * (block_options.get("expansion") or block.expansion)
        changing: dict[str, Any] = {
            "inplanes": inplanes,
            "planes": planes,
            "stride": stride,
            "downsample": build_downsample(inplanes, out_channels, stride, avg_down, conv_cfg, norm_cfg, always_pool),
        }
        keeping: dict[str, Any] = {"inplanes": out_channels if downsample_first else inplanes, "stride": 1}
        keeping["planes"] = planes if downsample_first else inplanes
        if block_options.get("dcn") is not None:
            changing["dcn"] = block_options.pop("dcn")
            keeping["dcn"] = without_fallback(changing["dcn"])
        order = [changing] + [keeping] * (num_blocks - 1)
        super().__init__(
            *(
                block(**kind, conv_cfg=conv_cfg, norm_cfg=norm_cfg, **block_options)
                for kind in (order if downsample_first else reversed(order))
            )
        )


class SimplifiedBasicBlock(nn.Module):
    """Two 3x3 convolutions and the identity, without a last activation (SCNet, arXiv 2012.10150).

    Args:
        inplanes, planes: channels in and out.
        stride, dilation: of the first convolution.
        downsample: what the identity goes through.
        conv_cfg: of the convolutions.
        norm_cfg: after each; None: none, and they have a bias.
        init_cfg: of first weights.
    """

    expansion = 1

    def __init__(
        self,
        inplanes: int,
        planes: int,
        stride: int = 1,
        dilation: int = 1,
        downsample: nn.Module | None = None,
        conv_cfg: Mapping[str, Any] | None = None,
        norm_cfg: Mapping[str, Any] | None = BN,
        init_cfg: InitCfg = None,
    ) -> None:
        super().__init__()
        bias = norm_cfg is None
        self.norm_names: tuple[str, ...] = () if norm_cfg is None else (norm_name(norm_cfg, 1), norm_name(norm_cfg, 2))
        self.conv1 = build_conv(
            conv_cfg, inplanes, planes, 3, stride=stride, padding=dilation, dilation=dilation, bias=bias
        )
        self.conv2 = build_conv(conv_cfg, planes, planes, 3, padding=1, bias=bias)
        for name in self.norm_names:
            assert norm_cfg is not None
            self.add_module(name, build_norm(norm_cfg, planes))
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample
        initialize(self, init_cfg)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inplanes, H, W) -> (B, planes, H', W')."""
        out = self.conv1(x)
        if self.norm_names:
            out = getattr(self, self.norm_names[0])(out)
        out = self.conv2(self.relu(out))
        if self.norm_names:
            out = getattr(self, self.norm_names[1])(out)
        return out + (x if self.downsample is None else self.downsample(x))  # type: ignore[no-any-return]
