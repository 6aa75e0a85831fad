"""RTMDet-nano, ReLU with channel attention (SSCMA's ``nano_relu``); pools of 3x3 only, for devices that stop there.

2.539 M parameters and 3.743 GMACs at 640x640 with 80 classes.
The attention is exact in integers: a mean, a 1x1 convolution that takes in its hardsigmoid, a product. Pixels go in as
``pixel / 255`` (SSCMA trains with a mean and std a channel). Stages and options: ../_base_/rtmdet.py.
"""

_base_ = "../_base_/rtmdet.py"

activation = "ReLU"
channel_attention = True
spp_pooling = "chained_3x3"
