"""RTMDet-nano with Hardswish: close to SiLU in accuracy, one table pass in integers where SiLU takes two.

2.452 M parameters and 3.743 GMACs at 640x640 with 80 classes.
Stages and options: ../_base_/rtmdet.py.
"""

_base_ = "../_base_/rtmdet.py"

activation = "Hardswish"
