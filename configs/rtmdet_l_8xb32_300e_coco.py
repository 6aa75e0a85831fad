"""RTMDet-l as SSCMA's first tutorial has it: ReLU, no channel attention.

42.658 M parameters and 71.417 GMACs at 640x640 with 80 classes.
Its neck has one block in each CSP layer. The newer files are in configs/rtmdet/.
"""

_base_ = "_base_/rtmdet.py"

activation = "ReLU"
deepen_factor = 1.0
widen_factor = 1.0
neck_csp_blocks = 1
share_conv = True
