"""NanoDet-Plus-m: ShuffleNetV2 1.0x, Ghost-PAN of 96 channels, LeakyReLU, bilinear enlargement.

1.198 M parameters with 80 classes, 0.451 GMACs at 320x320: the project's 1.17 M, which are those outside of batch
norms, and 0.9 GFLOPs (1.52 at 416x416), which count two for a MAC. Options: ../_base_/nanodet.py.
"""

_base_ = "../_base_/nanodet.py"
