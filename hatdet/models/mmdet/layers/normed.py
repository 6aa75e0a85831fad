"""Predictors by the angle between weight and feature (Seesaw loss, arXiv 2008.10032, section 3.4)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from hatdet.models.mmdet.layers.deform_conv import Pair
from hatdet.registry import register


@register(scope="mmdet")
class NormedLinear(nn.Linear):
    """A linear layer whose weights and inputs have length 1, times ``tempearture``.

    Args:
        tempearture: factor of the inputs (so spelled in configs).
        power: of the lengths that divide.
        eps: added to them.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        tempearture: float = 20,
        power: float = 1.0,
        eps: float = 1e-6,
    ) -> None:
        super().__init__(in_features, out_features, bias)
        self.tempearture, self.power, self.eps = tempearture, power, eps
        nn.init.normal_(self.weight, std=0.01)
        if bias:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_features) -> (B, out_features)."""
        weight = self.weight / (self.weight.norm(dim=1, keepdim=True).pow(self.power) + self.eps)
        x = x / (x.norm(dim=1, keepdim=True).pow(self.power) + self.eps)
        return F.linear(x * self.tempearture, weight, self.bias)


@register(scope="mmdet")
class NormedConv2d(nn.Conv2d):
    """A convolution whose inputs have length 1 at each position, and weights too, times ``tempearture``.

    Args:
        tempearture, power, eps: see :class:`NormedLinear`.
        norm_over_kernel: the length of a whole filter, not of each of its taps.
    """

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
        tempearture: float = 20,
        power: float = 1.0,
        eps: float = 1e-6,
        norm_over_kernel: bool = False,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)
        self.tempearture, self.power, self.eps, self.norm_over_kernel = tempearture, power, eps, norm_over_kernel

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H', W')."""
        length = self.weight.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        if not self.norm_over_kernel:
            length = self.weight.norm(dim=1, keepdim=True)
        weight = self.weight / (length.pow(self.power) + self.eps)
        x = x / (x.norm(dim=1, keepdim=True).pow(self.power) + self.eps)
        return self._conv_forward(x * self.tempearture, weight, self.bias)
