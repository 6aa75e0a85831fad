"""PicoDet-XS for NPUs: ReLU6, no squeeze-and-excitation, the neck of the first release.

0.481 M parameters and 0.233 GMACs at 320x320 with 80 classes. Options: ../_base_/picodet.py.
"""

_base_ = "../_base_/picodet.py"

activation = "ReLU6"
channel_attention = False
neck = "CSPPAN"
