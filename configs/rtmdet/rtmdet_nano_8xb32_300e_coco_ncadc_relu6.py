"""RTMDet-nano, ReLU6, no channel attention: the variant for microcontrollers and NPUs (SSCMA's ``ncadc_relu6``).

2.437 M parameters with 2 classes (2.452 M with 80); 0.333 GMACs at 192x192, 0.925 at 320x320, 3.70 at 640x640.
Stages and options: ../_base_/rtmdet.py. Measured: docs/results.md.
"""

_base_ = "../_base_/rtmdet.py"

activation = "ReLU6"
