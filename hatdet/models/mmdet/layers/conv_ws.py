"""Convolutions with standardized weights, and the one of DetectoRS that chooses its dilation."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hatdet.models.mmdet.layers.deform_conv import Pair, deform_conv2d
from hatdet.models.mmdet.layers.init import constant_init
from hatdet.registry import register


@register("ConvWS", scope="mmdet")
class ConvWS2d(nn.Conv2d):
    """Each filter less its mean, over its standard deviation (weight standardization, arXiv 1903.10520).

    Args:
        eps: added to the deviation.
    """

    one_operator = True  # a quantizer refuses it by its name, not by what it is made of

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Pair = 0,
        dilation: Pair = 1,
        groups: int = 1,
        bias: bool = True,
        eps: float = 1e-5,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H', W')."""
        flat = self.weight.flatten(1)
        flat = (flat - flat.mean(dim=1, keepdim=True)) / (flat.std(dim=1, keepdim=True) + self.eps)
        weight = flat.view_as(self.weight)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


@register("ConvAWS", scope="mmdet")
class ConvAWS2d(nn.Conv2d):
    """Each standardized filter times ``weight_gamma`` plus ``weight_beta`` (DetectoRS, arXiv 2006.02334, section 3.3).

    The two are buffers: deviation and mean of the filters that were loaded from a file that has not them, so that
    the convolution of that file is kept.
    """

    one_operator = True  # a quantizer refuses it by its name, not by what it is made of

    weight_gamma: Tensor
    weight_beta: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Pair = 0,
        dilation: Pair = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)
        self.register_buffer("weight_gamma", torch.ones(out_channels, 1, 1, 1))
        self.register_buffer("weight_beta", torch.zeros(out_channels, 1, 1, 1))

    def _moments(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation of each filter, (out_channels, 1, 1, 1)."""
        flat = self.weight.flatten(1)
        deviation = torch.sqrt(flat.var(dim=1) + 1e-5)
        return flat.mean(dim=1).view(-1, 1, 1, 1), deviation.view(-1, 1, 1, 1)

    def standardized(self) -> Tensor:
        """The weights that convolve."""
        mean, deviation = self._moments()
        return self.weight_gamma * ((self.weight - mean) / deviation) + self.weight_beta

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H', W')."""
        return F.conv2d(x, self.standardized(), self.bias, self.stride, self.padding, self.dilation, self.groups)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        if f"{prefix}weight_gamma" not in state_dict and f"{prefix}weight" in state_dict:
            with torch.no_grad():
                mean, deviation = self._moments()
                self.weight_beta.copy_(mean)
                self.weight_gamma.copy_(deviation)


@register("SAC", scope="mmdet")
class SAConv2d(ConvAWS2d):
    """Switchable atrous convolution (DetectoRS, arXiv 2006.02334, section 3.2).

    The filters convolve at their own dilation and, with a difference added, at three times that; a map between 0 and 1
    mixes the two at each position. The mean of the map is added before (``pre_context``) and after (``post_context``).

    State: of :class:`ConvAWS2d`, ``weight_diff``, ``switch``, ``pre_context``, ``post_context``, ``offset_s``,
    ``offset_l``.

    Args:
        use_deform: both convolutions are deformable.
    """

    keeps_init = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Pair = 0,
        dilation: Pair = 1,
        groups: int = 1,
        bias: bool = True,
        use_deform: bool = False,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)
        self.use_deform = use_deform
        self.switch = nn.Conv2d(in_channels, 1, 1, stride=stride)
        self.weight_diff = nn.Parameter(torch.zeros_like(self.weight))
        self.pre_context = nn.Conv2d(in_channels, in_channels, 1)
        self.post_context = nn.Conv2d(out_channels, out_channels, 1)
        if use_deform:
            self.offset_s = nn.Conv2d(in_channels, 18, 3, padding=1, stride=stride)
            self.offset_l = nn.Conv2d(in_channels, 18, 3, padding=1, stride=stride)
        for module in self.children():  # at first a plain convolution: all from the small dilation
            constant_init(module, 0)
        constant_init(self.switch, 0, bias=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H', W')."""
        x = x + self.pre_context(x.mean(dim=(2, 3), keepdim=True))
        smooth = F.avg_pool2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), 5, stride=1)
        switch, weight = self.switch(smooth), self.standardized()
        small = self._convolved(x, smooth, weight, "offset_s", 1)
        large = self._convolved(x, smooth, weight + self.weight_diff, "offset_l", 3)
        out = switch * small + (1 - switch) * large
        return out + self.post_context(out.mean(dim=(2, 3), keepdim=True))  # type: ignore[no-any-return]

    def _convolved(self, x: Tensor, smooth: Tensor, weight: Tensor, offset: str, times: int) -> Tensor:
        padding = (times * int(self.padding[0]), times * int(self.padding[1]))
        dilation = (times * self.dilation[0], times * self.dilation[1])
        if not self.use_deform:
            return F.conv2d(x, weight, self.bias, self.stride, padding, dilation, self.groups)
        stride = (self.stride[0], self.stride[1])
        offsets = getattr(self, offset)(smooth)
        return deform_conv2d(x, offsets, weight, self.bias, None, stride, padding, dilation, self.groups)
