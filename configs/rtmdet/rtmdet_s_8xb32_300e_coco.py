"""RTMDet-s with MMDetection's settings.

8.887 M parameters and 14.761 GMACs at 640x640 with 80 classes.
COCO AP published by MMDetection: 44.6 (300 epochs, theirs, not measured here).
"""

_base_ = "../_base_/rtmdet_mmdet.py"

deepen_factor = 0.33
widen_factor = 0.5
