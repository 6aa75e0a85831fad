"""RTMDet-pico, 0.6 M: for microcontrollers with little flash, 96 to 256 px.

0.571 M parameters with 2 classes (0.586 M with 80); 0.259 GMACs at 192x192 with 2 classes. All 3x3 convolutions are
depthwise separable, and the maps are those of strides 4, 8 and 16 instead of 8, 16 and 32: at 192 px the coarsest ones
of nano, 6x6, hold most of its 2.4 M parameters, while objects of a few pixels need finer ones. ReLU6, no channel
attention. Measured: docs/models.md.
"""

_base_ = "../_base_/rtmdet.py"

activation = "ReLU6"
imgsz = (192, 192)
epochs = 60
strides = (4, 8, 16)
widen_factor = 0.375
head_channels = 64
use_depthwise = True
