"""The two blocks of ResNet (arXiv 1512.03385, figure 5), with what may be put into them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hatdet.models.mmdet.layers.conv import build_conv
from hatdet.models.mmdet.layers.init import InitCfg, initialize
from hatdet.models.mmdet.layers.norm import build_norm, norm_name
from hatdet.models.mmdet.layers.plugins.build import build_plugin
from hatdet.models.mmdet.layers.res_layer import BN

POSITIONS = ("after_conv1", "after_conv2", "after_conv3")


class Block(nn.Module):
    """What residual blocks share: layers of normalization by number, and memory saved by computing twice.

    Args:
        downsample: what the identity goes through.
        with_cp: keep nothing of the inside for the backward pass, compute it again there.
        norm_cfg: of all normalization.
    """

    expansion = 1

    def __init__(self, downsample: nn.Module | None, with_cp: bool, norm_cfg: Mapping[str, Any]) -> None:
        super().__init__()
        self.downsample, self.with_cp, self.norm_cfg = downsample, with_cp, norm_cfg

    def _add_norm(self, number: int, channels: int) -> None:
        self.add_module(norm_name(self.norm_cfg, number), build_norm(self.norm_cfg, channels))

    def _norm(self, number: int) -> nn.Module:
        return self.get_submodule(norm_name(self.norm_cfg, number))

    @property
    def norm1(self) -> nn.Module:
        """After the first convolution."""
        return self._norm(1)

    @property
    def norm2(self) -> nn.Module:
        """After the second convolution."""
        return self._norm(2)

    @property
    def last_norm(self) -> nn.Module:
        """Before the sum: with a weight of zero the block is the identity."""
        return self._norm(2)

    def _saving(self, inside: Callable[[Any], Any], x: Any) -> Any:
        """``inside(x)``."""
        if self.with_cp and x.requires_grad:
            return checkpoint(inside, x, use_reentrant=False)
        return inside(x)

    def _identity(self, x: Tensor) -> Tensor:
        return x if self.downsample is None else self.downsample(x)


class BasicBlock(Block):
    """Two 3x3 convolutions and the identity.

    Args:
        inplanes, planes: channels in and out.
        stride, dilation: of the first convolution.
        downsample, with_cp, norm_cfg: see :class:`Block`.
        style: without meaning in this block.
        conv_cfg: of the convolutions.
        dcn, plugins: not possible in this block.
        init_cfg: of first weights.
    """

    def __init__(
        self,
        inplanes: int,
        planes: int,
        stride: int = 1,
        dilation: int = 1,
        downsample: nn.Module | None = None,
        style: str = "pytorch",
        with_cp: bool = False,
        conv_cfg: Mapping[str, Any] | None = None,
        norm_cfg: Mapping[str, Any] = BN,
        dcn: Mapping[str, Any] | None = None,
        plugins: Sequence[Mapping[str, Any]] | None = None,
        init_cfg: InitCfg = None,
    ) -> None:
        if dcn is not None or plugins:
            raise ValueError("dcn and plugins go into blocks of depth 50 and more; leave them out, or take depth=50")
        super().__init__(downsample, with_cp, norm_cfg)
        self.conv1 = build_conv(
            conv_cfg, inplanes, planes, 3, stride=stride, padding=dilation, dilation=dilation, bias=False
        )
        self._add_norm(1, planes)
        self.conv2 = build_conv(conv_cfg, planes, planes, 3, padding=1, bias=False)
        self._add_norm(2, planes)
        self.relu1, self.relu2 = nn.ReLU(inplace=True), nn.ReLU(inplace=True)
        initialize(self, init_cfg)

    def _inside(self, x: Tensor) -> Tensor:
        out = self.norm2(self.conv2(self.relu1(self.norm1(self.conv1(x)))))
        out += self._identity(x)  # in place: 3 % of a training step on a CPU
        return out  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        """(B, inplanes, H, W) -> (B, planes, H', W')."""
        return self.relu2(self._saving(self._inside, x))  # type: ignore[no-any-return]


class Bottleneck(Block):
    """1x1, 3x3, 1x1 convolutions and the identity; in groups (ResNeXt, arXiv 1611.05431), deformable, with plugins.

    Args:
        inplanes: channels in; ``planes * expansion`` come out.
        stride: of the 3x3 convolution (``style="pytorch"``) or of the first one (``"caffe"``).
        dilation: of the 3x3 convolution.
        downsample, with_cp, norm_cfg: see :class:`Block`.
        conv_cfg: of the convolutions.
        dcn: of the 3x3 convolution, in its place; with ``fallback_on_stride`` not.
        plugins: ``cfg`` and ``position`` (``after_conv1``, ``after_conv2``, ``after_conv3``) of each.
        init_cfg: of first weights.
        groups, base_width, base_channels: of the 3x3 convolution: ``planes * base_width / base_channels`` channels a
            group; with one group ``planes``.
        expansion: another one than 4.
    """

    expansion = 4

    def __init__(
        self,
        inplanes: int,
        planes: int,
        stride: int = 1,
        dilation: int = 1,
        downsample: nn.Module | None = None,
        style: str = "pytorch",
        with_cp: bool = False,
        conv_cfg: Mapping[str, Any] | None = None,
        norm_cfg: Mapping[str, Any] = BN,
        dcn: Mapping[str, Any] | None = None,
        plugins: Sequence[Mapping[str, Any]] | None = None,
        init_cfg: InitCfg = None,
        groups: int = 1,
        base_width: int = 4,
        base_channels: int = 64,
        expansion: int | None = None,
    ) -> None:
        if style not in ("pytorch", "caffe"):
            raise ValueError(f"style={style!r}: write 'pytorch' (stride in the 3x3 convolution) or 'caffe'")
        if dcn is not None and conv_cfg is not None:
            raise ValueError("conv_cfg and dcn both name the 3x3 convolution; leave one out")
        super().__init__(downsample, with_cp, norm_cfg)
        if expansion is not None:
            self.expansion = expansion
        self.planes, self.dilation, self.groups, self.conv_cfg = planes, dilation, groups, conv_cfg
        self.base_width, self.base_channels = base_width, base_channels
        self.conv1_stride, self.conv2_stride = (1, stride) if style == "pytorch" else (stride, 1)
        width, out_channels = self._width(), planes * self.expansion
        self.conv1 = build_conv(conv_cfg, inplanes, width, 1, stride=self.conv1_stride, bias=False)
        self._add_norm(1, width)
        self._make_middle(width, dcn)
        self.conv3 = build_conv(conv_cfg, width, out_channels, 1, bias=False)
        self._add_norm(3, out_channels)
        self.relu1, self.relu2, self.relu3 = (nn.ReLU(inplace=True) for _ in range(3))
        self._plugins: dict[str, list[str]] = {position: [] for position in POSITIONS}
        for plugin in plugins or ():
            self._add_plugin(plugin, out_channels if plugin.get("position") == "after_conv3" else width)
        initialize(self, init_cfg)

    def _width(self) -> int:
        """Channels inside."""
        if self.groups == 1:
            return self.planes
        return math.floor(self.planes * (self.base_width / self.base_channels)) * self.groups

    def _make_middle(self, width: int, dcn: Mapping[str, Any] | None) -> None:
        """The 3x3 convolution and its normalization."""
        self.conv2 = build_conv(
            self._middle_cfg(dcn), width, width, 3, stride=self.conv2_stride, padding=self.dilation,
            dilation=self.dilation, groups=self.groups, bias=False,
        )  # fmt: skip
        self._add_norm(2, width)

    def _middle_cfg(self, dcn: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        if dcn is None:
            return self.conv_cfg
        options = dict(dcn)
        falls_back = options.pop("fallback_on_stride", False)
        return self.conv_cfg if falls_back else options

    def _add_plugin(self, plugin: Mapping[str, Any], channels: int) -> None:
        position = plugin.get("position")
        if position not in POSITIONS or "cfg" not in plugin:
            raise ValueError(f"a plugin has cfg and position, one of {', '.join(POSITIONS)}; got {dict(plugin)}")
        name, layer = build_plugin(plugin["cfg"], channels)
        if hasattr(self, name):
            raise ValueError(f"two plugins are called {name}; give each a postfix in its cfg")
        self.add_module(name, layer)
        self._plugins[position].append(name)

    @property
    def norm3(self) -> nn.Module:
        """After the third convolution."""
        return self._norm(3)

    @property
    def last_norm(self) -> nn.Module:
        """Before the sum."""
        return self._norm(3)

    def _plugged(self, position: str, x: Tensor) -> Tensor:
        for name in self._plugins[position]:
            x = getattr(self, name)(x)
        return x

    def _middle(self, x: Tensor) -> Tensor:
        return self.relu2(self.norm2(self.conv2(x)))  # type: ignore[no-any-return]

    def _inside(self, x: Tensor) -> Tensor:
        out = self._plugged("after_conv1", self.relu1(self.norm1(self.conv1(x))))
        out = self._plugged("after_conv2", self._middle(out))
        out = self._plugged("after_conv3", self.norm3(self.conv3(out)))
        out += self._identity(x)
        return out

    def forward(self, x: Tensor) -> Tensor:
        """(B, inplanes, H, W) -> (B, planes * expansion, H', W')."""
        return self.relu3(self._saving(self._inside, x))  # type: ignore[no-any-return]
