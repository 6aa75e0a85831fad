"""YOLOX-nano as published: depthwise separable convolutions, SiLU.

0.912 M parameters with 80 classes, 0.523 GMACs at 416x416: the paper's 0.91 M and 1.08 GFLOPs, which count two for
every MAC and four for every number that a batch norm gives. Options: ../_base_/yolox.py.
"""

_base_ = "../_base_/yolox.py"

widen_factor = 0.25
use_depthwise = True
