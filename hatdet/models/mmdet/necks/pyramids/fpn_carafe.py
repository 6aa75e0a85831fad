"""The feature pyramid with a choice of upsampling, content-aware reassembly first (arXiv 1905.02188)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from hatdet.models.mmdet.layers.conv import ConvModule
from hatdet.models.mmdet.layers.init import xavier_init
from hatdet.models.mmdet.layers.upsample import build_upsample
from hatdet.models.mmdet.necks.levels import continued, end_of_levels
from hatdet.registry import register
from hatdet.utils.annotations import Spec

_CARAFE: Spec = {"type": "carafe", "up_kernel": 5, "up_group": 1, "encoder_kernel": 3, "encoder_dilation": 1}
_ORDERS = [("conv", "norm", "act"), ("act", "conv", "norm")]
_UPSAMPLES = ("nearest", "bilinear", "deconv", "pixel_shuffle", "carafe")


@register(scope="mmdet")
class FPN_CARAFE(nn.Module):
    """As FPN, with a layer for each step down (``upsample_modules``); further maps are laterals too, stride-2
    convolutions of the map before, and part of the way down.

    Args:
        in_channels: of all the backbone's maps.
        out_channels: of each map returned.
        num_outs: maps returned.
        start_level, end_level: first and last map that is used; -1: the last there is.
        norm_cfg, act_cfg, order: see :class:`ConvModule`.
        upsample_cfg: ``type`` nearest, bilinear, deconv, pixel_shuffle (these two with ``upsample_kernel``) or carafe,
            and its arguments.

    Raises:
        ValueError: levels that do not exist, or another order or upsampling.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        num_outs: int,
        start_level: int = 0,
        end_level: int = -1,
        norm_cfg: Spec | None = None,
        act_cfg: Spec | None = None,
        order: Sequence[str] = ("conv", "norm", "act"),
        upsample_cfg: Spec = _CARAFE,
        init_cfg: None = None,
    ) -> None:
        super().__init__()
        end = end_of_levels(in_channels, num_outs, start_level, end_level)
        if tuple(order) not in _ORDERS:
            raise ValueError(f"order={tuple(order)}; write one of {', '.join(map(str, _ORDERS))}")
        if _kind(upsample_cfg) not in _UPSAMPLES:
            raise ValueError(f"upsample_cfg has the type {_kind(upsample_cfg)!r}; write one of {', '.join(_UPSAMPLES)}")
        self.in_channels, self.out_channels, self.num_outs = list(in_channels), out_channels, num_outs
        self.start_level, self.backbone_end_level = start_level, end
        used = self.in_channels[start_level:end]
        parts: dict[str, Any] = {
            "norm_cfg": norm_cfg, "act_cfg": act_cfg, "bias": norm_cfg is None, "inplace": False, "order": order,
        }  # fmt: skip
        self.lateral_convs = nn.ModuleList(ConvModule(channels, out_channels, 1, **parts) for channels in used)
        for i in range(num_outs - len(used)):
            source = used[-1] if i == 0 else out_channels
            self.lateral_convs.append(ConvModule(source, out_channels, 3, stride=2, padding=1, **parts))
        self.fpn_convs = nn.ModuleList(
            ConvModule(out_channels, out_channels, 3, padding=1, **parts) for _ in range(num_outs)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                xavier_init(module, distribution="uniform")
        # Upsampling layers have first weights of their own.
        self.upsample_modules = nn.ModuleList(_upsample(upsample_cfg, out_channels) for _ in range(num_outs - 1))

    def output_strides(self, in_strides: Sequence[int]) -> tuple[int, ...]:
        """Strides of the maps returned for maps of ``in_strides``."""
        return continued(in_strides, self.start_level, self.backbone_end_level, self.num_outs)

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        used = list(feats[self.start_level : self.backbone_end_level])
        maps: list[Tensor] = []
        for i, conv in enumerate(self.lateral_convs):
            # The first further map is made of the backbone's last, the others of the one before.
            maps.append(conv(used[i] if i < len(used) else feats[-1] if i == len(used) else maps[-1]))
        for i in range(len(maps) - 1, 0, -1):
            up, (rows, columns) = self.upsample_modules[i - 1](maps[i]), maps[i - 1].shape[2:]
            if up.shape[2:] != maps[i - 1].shape[2:]:
                up = up[:, :, :rows, :columns]
            maps[i - 1] = maps[i - 1] + up
        return tuple(conv(x) for conv, x in zip(self.fpn_convs, maps, strict=True))


def _kind(cfg: Spec) -> str:
    return str(cfg.get("type")).rpartition(".")[2]


def _upsample(cfg: Spec, channels: int) -> nn.Module:
    """By a factor of 2."""
    kind, options = _kind(cfg), dict(cfg)
    if kind in ("nearest", "bilinear"):
        align_corners = None if kind == "nearest" else False
        return build_upsample({**options, "scale_factor": 2, "align_corners": align_corners})
    if kind == "carafe":
        return build_upsample({**options, "channels": channels, "scale_factor": 2})
    kernel = options.pop("upsample_kernel", 0)
    if kernel < 1:
        raise ValueError(f"upsample_cfg of type {kind} needs upsample_kernel=, a side of at least 1")
    options.update(in_channels=channels, out_channels=channels)
    if kind == "pixel_shuffle":
        return build_upsample({**options, "scale_factor": 2, "upsample_kernel": kernel})
    half = (kernel - 1) // 2
    layer = build_upsample({**options, "kernel_size": kernel, "stride": 2, "padding": half, "output_padding": half})
    xavier_init(layer, distribution="uniform")
    return layer
