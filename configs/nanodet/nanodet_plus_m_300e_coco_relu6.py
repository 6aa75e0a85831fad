"""NanoDet-Plus-m for NPUs: ReLU6 in place of LeakyReLU, so that no activation is an operator of its own.

1.198 M parameters with 80 classes, 0.451 GMACs at 320x320. Options: ../_base_/nanodet.py.
"""

_base_ = "nanodet_plus_m_300e_coco.py"

activation = "ReLU6"
