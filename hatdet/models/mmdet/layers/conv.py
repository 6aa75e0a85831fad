"""Convolutions by their names in configs, alone and with normalization and activation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from hatdet.models.mmdet.layers.activation import build_activation
from hatdet.models.mmdet.layers.norm import build_norm, norm_name
from hatdet.models.mmdet.layers.other_convs import Conv2dAdaptivePadding
from hatdet.registry import registered_names, resolve
from hatdet.utils.errors import RegistryError, did_you_mean

CONVS: dict[str, Callable[..., nn.Module]] = {
    "Conv1d": nn.Conv1d,
    "Conv2d": nn.Conv2d,
    "Conv3d": nn.Conv3d,
    "Conv": nn.Conv2d,
}
Size = int | tuple[int, int]


def build_conv(cfg: Mapping[str, Any] | None, *args: Any, **kwargs: Any) -> nn.Module:
    """``nn.Conv2d(*args, **kwargs)``, or the class that ``cfg`` names (``dict(type="DCNv2", deform_groups=1)``).

    Raises:
        RegistryError: an unknown type or argument.
    """
    options = dict(cfg or {"type": "Conv2d"})
    kind = str(options.pop("type")).rpartition(".")[2]
    make = CONVS.get(kind)
    if make is None:
        name = f"mmdet.{kind}"  # DCN, DCNv2, ConvWS, ConvAWS, SAC: modules that register themselves
        known = [*CONVS, "DCN", "DCNv2", "ConvWS", "ConvAWS", "SAC"]
        if name not in registered_names():
            raise RegistryError(f"unknown conv_cfg type {kind!r}{did_you_mean(kind, known)}; one of {', '.join(known)}")
        make = resolve(name)
    try:
        return make(*args, **kwargs, **options)
    except TypeError as error:
        raise RegistryError(f"conv_cfg {kind}: {error}; leave that argument out") from error


class ConvModule(nn.Module):
    """Convolution, normalization, activation: ``conv``, ``bn`` (``gn``, ...), ``activate``.

    (B, in_channels, H, W) -> (B, out_channels, H', W').

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups: of the convolution.
        bias: ``auto``: where no normalization follows.
        conv_cfg: another convolution than ``nn.Conv2d``.
        norm_cfg: normalization; None: none.
        act_cfg: activation; None: none.
        inplace: whether the activation overwrites.
        with_spectral_norm: weight divided by its largest singular value.
        padding_mode: ``zeros``, ``reflect`` or ``circular``.
        order: of the three.

    Raises:
        RegistryError: an unknown type in one of the dicts.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool | str = "auto",
        conv_cfg: Mapping[str, Any] | None = None,
        norm_cfg: Mapping[str, Any] | None = None,
        act_cfg: Mapping[str, Any] | None = {"type": "ReLU"},
        inplace: bool = True,
        with_spectral_norm: bool = False,
        padding_mode: str = "zeros",
        order: Sequence[str] = ("conv", "norm", "act"),
    ) -> None:
        super().__init__()
        self.order = tuple(order)
        self.with_norm, self.with_activation = norm_cfg is not None, act_cfg is not None
        self.with_bias = not self.with_norm if bias == "auto" else bool(bias)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.conv = build_conv(
            conv_cfg, in_channels, out_channels, kernel_size, stride=stride, padding=padding, dilation=dilation,
            groups=groups, bias=self.with_bias, **({} if padding_mode == "zeros" else {"padding_mode": padding_mode}),
        )  # fmt: skip
        self.padding_layer = None
        if isinstance(self.conv, Conv2dAdaptivePadding):
            self.padding_layer, self.conv = self.conv.apart()
        if with_spectral_norm:
            self.conv = nn.utils.spectral_norm(self.conv)
        self.norm_name = None
        if norm_cfg is not None:
            self.norm_name = norm_name(norm_cfg)
            normed = out_channels if self.order.index("norm") > self.order.index("conv") else in_channels
            self.add_module(self.norm_name, build_norm(norm_cfg, normed))
        if act_cfg is not None:
            self.activate = build_activation(act_cfg, inplace)
        self._init_weights(act_cfg or {})

    @property
    def norm(self) -> nn.Module | None:
        """The normalization layer; None where there is none."""
        return None if self.norm_name is None else self.get_submodule(self.norm_name)

    def _init_weights(self, act_cfg: Mapping[str, Any]) -> None:
        """He's initialization for the activation that follows (arXiv 1502.01852)."""
        weight = getattr(self.conv, "weight", None)
        if weight is None or hasattr(self.conv, "init_weights"):
            return
        leaky = act_cfg.get("type") == "LeakyReLU"
        slope = act_cfg.get("negative_slope", 0.01) if leaky else 0
        nn.init.kaiming_normal_(weight, a=slope, mode="fan_out", nonlinearity="leaky_relu" if leaky else "relu")
        bias = getattr(self.conv, "bias", None)
        if bias is not None:
            nn.init.zeros_(bias)

    def forward(self, x: Tensor) -> Tensor:
        for step in self.order:
            if step == "conv":
                x = self.conv(x if self.padding_layer is None else self.padding_layer(x))
            elif step == "norm" and self.norm_name is not None:
                x = self.get_submodule(self.norm_name)(x)
            elif step == "act" and self.with_activation:
                x = self.activate(x)
        return x


class DepthwiseSeparableConvModule(nn.Module):
    """A depthwise convolution and a pointwise one, each a :class:`ConvModule` (``depthwise_conv``, ``pointwise_conv``).

    Args:
        dw_norm_cfg, dw_act_cfg, pw_norm_cfg, pw_act_cfg: ``default``: as ``norm_cfg`` and ``act_cfg`` say.
        kwargs: other arguments of both :class:`ConvModule`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size = 0,
        dilation: Size = 1,
        norm_cfg: Mapping[str, Any] | None = None,
        act_cfg: Mapping[str, Any] | None = {"type": "ReLU"},
        dw_norm_cfg: Mapping[str, Any] | str | None = "default",
        dw_act_cfg: Mapping[str, Any] | str | None = "default",
        pw_norm_cfg: Mapping[str, Any] | str | None = "default",
        pw_act_cfg: Mapping[str, Any] | str | None = "default",
        **kwargs: Any,
    ) -> None:
        super().__init__()

        def chosen(own: Any, common: Any) -> Any:
            return common if own == "default" else own

        self.depthwise_conv = ConvModule(
            in_channels, in_channels, kernel_size, stride=stride, padding=padding, dilation=dilation,
            groups=in_channels, norm_cfg=chosen(dw_norm_cfg, norm_cfg), act_cfg=chosen(dw_act_cfg, act_cfg), **kwargs,
        )  # fmt: skip
        self.pointwise_conv = ConvModule(
            in_channels, out_channels, 1,
            norm_cfg=chosen(pw_norm_cfg, norm_cfg), act_cfg=chosen(pw_act_cfg, act_cfg), **kwargs,
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise_conv(self.depthwise_conv(x))  # type: ignore[no-any-return]
