"""Building blocks shared by backbones, necks and heads."""

from hatdet.utils.lazy import names_of

__getattr__ = names_of(
    __name__,
    {
        "activations": "ACTIVATIONS build_activation",
        "attention": "ChannelAttention",
        "conv": "ConvModule DepthwiseSeparableConvModule conv_class",
        "csp": "CSPLayer CSPNeXtBlock",
        "spp": "SPP",
    },
)
