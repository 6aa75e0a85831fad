"""PicoDet-XS of the second release, as published: PP-LCNet x0.35, Hardswish, squeeze-and-excitation.

0.704 M parameters and 0.331 GMACs at 320x320 with 80 classes (published: 0.70 M, 0.67 GFLOPs, two of which are a MAC).
Options: ../_base_/picodet.py; the form for NPUs: picodet_xs_npu.py.
"""

_base_ = "../_base_/picodet.py"
