"""YOLOX-tiny with ReLU6 in place of SiLU: cheaper on an NPU.

5.056 M parameters with 80 classes, 3.206 GMACs at 416x416. Options: ../_base_/yolox.py.
"""

_base_ = "yolox_tiny_8xb8_300e_coco.py"

activation = "ReLU6"
