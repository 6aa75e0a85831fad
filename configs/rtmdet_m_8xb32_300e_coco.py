"""RTMDet-m as SSCMA's first tutorial has it: ReLU, no channel attention.

21.594 M parameters and 36.672 GMACs at 640x640 with 80 classes.
Its neck has one block in each CSP layer. The newer files are in configs/rtmdet/.
"""

_base_ = "_base_/rtmdet.py"

activation = "ReLU"
deepen_factor = 0.67
widen_factor = 0.75
neck_csp_blocks = 1
share_conv = True
