"""RTMDet-nano with SiLU and channel attention: what the larger RTMDets are made of, at nano's width.

2.539 M parameters and 3.743 GMACs at 640x640 with 80 classes.
For accuracy on phones; tools/compile_perf.py says what SiLU costs on an NPU. Stages and options: ../_base_/rtmdet.py.
"""

_base_ = "../_base_/rtmdet.py"

activation = "SiLU"
channel_attention = True
