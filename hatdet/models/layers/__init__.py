"""Building blocks shared by backbones, necks and heads."""

from hatdet.models.layers.activations import ACTIVATIONS, build_activation
from hatdet.models.layers.attention import ChannelAttention
from hatdet.models.layers.conv import ConvModule, DepthwiseSeparableConvModule, conv_class
from hatdet.models.layers.csp import CSPLayer, CSPNeXtBlock
from hatdet.models.layers.spp import SPP

__all__ = [
    "ACTIVATIONS",
    "SPP",
    "CSPLayer",
    "CSPNeXtBlock",
    "ChannelAttention",
    "ConvModule",
    "DepthwiseSeparableConvModule",
    "build_activation",
    "conv_class",
]
