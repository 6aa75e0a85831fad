"""YOLOX-nano with ReLU6 in place of SiLU: cheaper on an NPU, and no table between convolution and integers.

0.912 M parameters with 80 classes, 0.523 GMACs at 416x416. Options: ../_base_/yolox.py.
"""

_base_ = "yolox_nano_8xb8_300e_coco.py"

activation = "ReLU6"
