"""FOMO's classifier: a class for every cell of one map."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hatdet.models.fitting import told
from hatdet.models.layers.activations import build_activation
from hatdet.registry import register


@register
class FOMOHead(nn.Module):
    """[(B, in_channels, H, W)] -> ((B, 1 + num_classes, H, W),): logits of background and of each class, in this order.

    A 1x1 convolution with an activation, and a second 1x1 convolution that gives the logits; both have a bias and no
    norm, as in Edge Impulse's FOMO, whose first one has 32 channels and a ReLU (here a ReLU6, as the backbone's).

    Args:
        num_classes: without background.
        in_channels: of the map; None: as the backbone says.
        feat_channels: of the first convolution.
        activation: behind it.
        strides: of the map, one number: pixels of a cell's side.
        prior_probability: that an untrained head gives to an object in a cell, all classes together; a loss in which
            objects weigh more is near its balance at a higher one than their number says.

    Raises:
        ValueError: a probability that is not between 0 and 1, or another number of strides than one.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int | None = None,
        feat_channels: int = 32,
        activation: str = "ReLU6",
        strides: Sequence[int] = (8,),
        prior_probability: float = 0.5,
    ) -> None:
        super().__init__()
        if not 0 < prior_probability < 1:
            raise ValueError(f"prior_probability is between 0 and 1, got {prior_probability}")
        if len(strides) != 1:
            raise ValueError(f"strides is {tuple(strides)}; FOMO has one map: name one stride")
        self.in_channels = told(in_channels, "in_channels")
        self.num_classes, self.strides = num_classes, tuple(strides)
        self.conv = nn.Conv2d(self.in_channels, feat_channels, 1)
        self.activate = build_activation(activation) or nn.Identity()
        self.cls = nn.Conv2d(feat_channels, 1 + num_classes, 1)
        nn.init.kaiming_normal_(self.conv.weight)
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]
        nn.init.normal_(self.cls.weight, std=0.01)
        background = math.log(num_classes * (1 - prior_probability) / prior_probability)
        self.cls.bias = nn.Parameter(torch.tensor([background, *[0.0] * num_classes]))

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        (feat,) = feats
        return (self.cls(self.activate(self.conv(feat))),)
