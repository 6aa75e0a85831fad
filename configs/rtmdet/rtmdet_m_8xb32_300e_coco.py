"""RTMDet-m with MMDetection's settings.

24.709 M parameters and 39.066 GMACs at 640x640 with 80 classes.
COCO AP published by MMDetection: 49.4 (300 epochs, theirs, not measured here).
"""

_base_ = "../_base_/rtmdet_mmdet.py"

deepen_factor = 0.67
widen_factor = 0.75
exp_on_reg = True
_recipes_ = {"small": {"scale_ratio": (0.6, 1.4)}}
scale_ratio = (0.1, 2.0)
