"""RTMDet-tiny with MMDetection's settings.

4.896 M parameters and 8.036 GMACs at 640x640 with 80 classes.
COCO AP published by MMDetection: 41.1 (300 epochs, theirs, not measured here).
"""

_base_ = "../_base_/rtmdet_mmdet.py"

deepen_factor = 0.167
widen_factor = 0.375
mosaic_cached = 19
mixup_cached = 9
random_pop = False
long_mixup_prob = 0.5
