"""Layers that make maps larger, by their names in configs (``dict(type="carafe", up_kernel=5)``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hatdet.models.mmdet.layers.conv import ConvModule
from hatdet.models.mmdet.layers.init import InitCfg, initialize, normal_init, xavier_init
from hatdet.registry import register
from hatdet.utils.annotations import signature_of
from hatdet.utils.errors import RegistryError, did_you_mean

RELU: Mapping[str, Any] = {"type": "ReLU"}


def carafe(x: Tensor, masks: Tensor, kernel_size: int, group_size: int, scale_factor: int) -> Tensor:
    """Each position of the larger map is a weighted sum of a window around its place in the smaller one.

    Args:
        x: (B, C, H, W).
        masks: (B, group_size * kernel_size ** 2, H * scale, W * scale): the weights; a group of channels shares them.
        kernel_size: side of the window, odd.

    Returns:
        (B, C, H * scale, W * scale).
    """
    batch, channels, height, width = x.shape
    taps, scale = kernel_size * kernel_size, scale_factor
    windows = F.unfold(x, kernel_size, padding=kernel_size // 2)
    windows = windows.view(batch, group_size, channels // group_size, taps, height, width)
    weights = masks.view(batch, group_size, taps, height, scale, width, scale)
    result = torch.einsum("bgcthw,bgthywx->bgchywx", windows, weights)
    return result.reshape(batch, channels, height * scale, width * scale)


@register(scope="mmdet")
class CARAFEPack(nn.Module):
    """Content-aware reassembly (arXiv 1905.02188): the weights of :func:`carafe` are told by the map.

    State: ``channel_compressor``, ``content_encoder``.

    Args:
        channels: of the map.
        scale_factor: how much larger.
        up_kernel: side of the window.
        up_group: groups of channels with weights of their own.
        encoder_kernel, encoder_dilation: of the convolution that says the weights.
        compressed_channels: what it sees.
    """

    one_operator = True  # a quantizer refuses it by its name, not by what it is made of
    keeps_init = True

    def __init__(
        self,
        channels: int,
        scale_factor: int,
        up_kernel: int = 5,
        up_group: int = 1,
        encoder_kernel: int = 3,
        encoder_dilation: int = 1,
        compressed_channels: int = 64,
    ) -> None:
        super().__init__()
        if up_kernel % 2 != 1 or channels % up_group:
            raise ValueError(
                f"up_kernel={up_kernel}, up_group={up_group}: give an odd kernel, and groups that divide {channels}"
            )
        self.channels, self.scale_factor = channels, scale_factor
        self.up_kernel, self.up_group = up_kernel, up_group
        self.channel_compressor = nn.Conv2d(channels, compressed_channels, 1)
        self.content_encoder = nn.Conv2d(
            compressed_channels, up_kernel * up_kernel * up_group * scale_factor * scale_factor, encoder_kernel,
            padding=(encoder_kernel - 1) * encoder_dilation // 2, dilation=encoder_dilation,
        )  # fmt: skip
        xavier_init(self.channel_compressor, distribution="uniform")
        normal_init(self.content_encoder, std=0.001)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H * scale, W * scale)."""
        raw = F.pixel_shuffle(self.content_encoder(self.channel_compressor(x)), self.scale_factor)
        masks = raw.view(len(raw), self.up_group, -1, *raw.shape[2:]).softmax(dim=2).reshape(raw.shape)
        return carafe(x, masks, self.up_kernel, self.up_group, self.scale_factor)


@register(scope="mmdet")
class PixelShufflePack(nn.Module):
    """A convolution whose channels become positions (arXiv 1609.05158). State: ``upsample_conv``.

    Args:
        in_channels, out_channels: of the maps.
        scale_factor: how much larger.
        upsample_kernel: of the convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, scale_factor: int, upsample_kernel: int) -> None:
        super().__init__()
        self.scale_factor = scale_factor
        self.upsample_conv = nn.Conv2d(
            in_channels, out_channels * scale_factor * scale_factor, upsample_kernel, padding=(upsample_kernel - 1) // 2
        )
        xavier_init(self.upsample_conv, distribution="uniform")

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, H * scale, W * scale)."""
        return F.pixel_shuffle(self.upsample_conv(x), self.scale_factor)


class ConvUpsample(nn.Module):
    """3x3 convolutions, each of the first ones followed by a bilinear map of twice the size. State: ``conv``.

    Args:
        in_channels: of the map.
        inner_channels: of the convolutions.
        num_layers: convolutions.
        num_upsample: how many make larger; None: all.
        conv_cfg, norm_cfg, act_cfg: of the convolutions.
        init_cfg: of first weights.
    """

    def __init__(
        self,
        in_channels: int,
        inner_channels: int,
        num_layers: int = 1,
        num_upsample: int | None = None,
        conv_cfg: Mapping[str, Any] | None = None,
        norm_cfg: Mapping[str, Any] | None = None,
        act_cfg: Mapping[str, Any] | None = RELU,
        init_cfg: InitCfg = None,
    ) -> None:
        super().__init__()
        self.num_upsample = num_layers if num_upsample is None else num_upsample
        if self.num_upsample > num_layers:
            raise ValueError(f"num_upsample={num_upsample}: at most num_layers={num_layers}")
        self.conv = nn.ModuleList(
            ConvModule(
                inner_channels if i else in_channels, inner_channels, 3, padding=1, conv_cfg=conv_cfg,
                norm_cfg=norm_cfg, act_cfg=act_cfg,
            )
            for i in range(num_layers)
        )  # fmt: skip
        initialize(self, init_cfg)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, inner_channels, H * 2 ** num_upsample, W * 2 ** num_upsample)."""
        for i, conv in enumerate(self.conv):
            x = conv(x)
            if i < self.num_upsample:
                x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        return x


_UPSAMPLES: dict[str, Any] = {
    "nearest": nn.Upsample,
    "bilinear": nn.Upsample,
    "deconv": nn.ConvTranspose2d,
    "pixel_shuffle": PixelShufflePack,
    "carafe": CARAFEPack,
}


def build_upsample(cfg: Mapping[str, Any], **given: Any) -> nn.Module:
    """The layer of ``cfg``: ``nearest``, ``bilinear``, ``deconv``, ``pixel_shuffle`` or ``carafe``.

    Args:
        cfg: ``type`` and the arguments of the layer.
        given: arguments that ``cfg`` leaves out.

    Raises:
        RegistryError: an unknown type or argument.
    """
    options = {**given, **cfg}
    kind = str(options.pop("type")).rpartition(".")[2]
    kind = {"CARAFEPack": "carafe", "PixelShufflePack": "pixel_shuffle", "ConvTranspose2d": "deconv"}.get(kind, kind)
    if kind not in _UPSAMPLES:
        near = did_you_mean(kind, _UPSAMPLES)
        raise RegistryError(f"unknown upsample_cfg type {kind!r}{near}; one of {', '.join(_UPSAMPLES)}")
    if kind in ("nearest", "bilinear"):
        options["mode"] = kind
    make = _UPSAMPLES[kind]
    strange = [key for key in options if key not in signature_of(make).parameters]
    if strange:
        raise RegistryError(f"upsample_cfg {kind} has no argument {strange[0]!r}; leave it out")
    return make(**options)  # type: ignore[no-any-return]
