"""PicoDet-S for NPUs: ReLU6, no squeeze-and-excitation, the neck of the first release.

0.890 M parameters and 0.383 GMACs at 320x320 with 80 classes. Options: ../_base_/picodet.py.
"""

_base_ = "picodet_xs_npu.py"

widen_factor = 0.75
