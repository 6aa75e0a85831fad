"""NanoDet-Plus-m-1.5x: ShuffleNetV2 1.5x, Ghost-PAN of 128 channels.

2.478 M parameters with 80 classes, 0.879 GMACs at 320x320: the project's 2.44 M and 1.75 GFLOPs (2.97 at 416x416),
counted as in nanodet_plus_m_300e_coco.py. Options: ../_base_/nanodet.py.
"""

_base_ = "../_base_/nanodet.py"

model_size = "1.5x"
head_channels = 128
