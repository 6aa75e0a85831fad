"""RTMDet-x with MMDetection's settings.

94.856 M parameters and 141.190 GMACs at 640x640 with 80 classes.
COCO AP published by MMDetection: 52.8 (300 epochs, theirs, not measured here).
"""

_base_ = "../_base_/rtmdet_mmdet.py"

deepen_factor = 1.33
widen_factor = 1.25
exp_on_reg = True
_recipes_ = {"small": {"scale_ratio": (0.6, 1.4)}}
scale_ratio = (0.1, 2.0)
