"""YOLOX-tiny as published: three eighths of YOLOX-L's channels, a third of its depth, SiLU.

5.056 M parameters with 80 classes, 3.206 GMACs at 416x416: the paper's 5.06 M and 6.45 GFLOPs, counted as in
yolox_nano_8xb8_300e_coco.py. Options: ../_base_/yolox.py.
"""

_base_ = "../_base_/yolox.py"

widen_factor = 0.375
