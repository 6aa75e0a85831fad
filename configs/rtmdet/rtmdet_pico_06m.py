"""RTMDet-pico, 0.6 M: for microcontrollers with little flash, 96 to 256 px.

0.586 M parameters with 2 classes (0.601 M with 80); 0.099 GMACs at 192x192 with 2 classes. RTMDet-nano's early stages,
all 3x3 convolutions depthwise separable, no stage wider than 160 channels: most of nano's 2.4 M parameters work on its
coarsest maps. ReLU6, no channel attention. Measured: docs/models.md.
"""

_base_ = "rtmdet_nano_ncadc_relu6_small_data.py"

imgsz = (192, 192)
use_depthwise = True
max_channels = 160
