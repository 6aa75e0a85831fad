"""PicoDet-S for NPUs and small inputs: the maps of strides 4 to 32, for objects of fewer than 16 pixels.

0.620 M parameters with 80 classes; 0.297 GMACs at 192x192 with 3 classes. Options: ../_base_/picodet.py.
"""

_base_ = "picodet_s_npu.py"

imgsz = (192, 192)
out_indices = (3, 4, 5)
strides = (4, 8, 16, 32)
