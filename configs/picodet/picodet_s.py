"""PicoDet-S of the second release, as published: PP-LCNet x0.75, Hardswish, squeeze-and-excitation.

1.186 M parameters and 0.481 GMACs at 320x320 with 80 classes (published: 1.18 M, 0.97 GFLOPs, two of which are a MAC).
Options: ../_base_/picodet.py; the form for NPUs: picodet_s_npu.py.
"""

_base_ = "../_base_/picodet.py"

widen_factor = 0.75
