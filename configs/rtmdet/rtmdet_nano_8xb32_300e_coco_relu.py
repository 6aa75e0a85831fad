"""RTMDet-nano, ReLU with channel attention (SSCMA's ``nano_relu``); pools of 3x3 only, for devices that stop there.

Everything else, stages and options, is that of the ``ncadc_relu6`` config. The attention is exact in integers: a mean,
a 1x1 convolution that takes in its hardsigmoid, a product. Pixels go in as ``pixel / 255``: the integer input has one
scale for all channels.
"""

_base_ = "rtmdet_nano_8xb32_300e_coco_ncadc_relu6.py"

activation = "ReLU"

model = dict(backbone=dict(channel_attention=True, spp_pooling="chained_3x3"))
