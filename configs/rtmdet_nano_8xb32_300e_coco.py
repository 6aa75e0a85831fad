"""RTMDet-nano as SSCMA's first tutorial has it: ReLU, no channel attention, 320 px.

2.187 M parameters and 3.469 GMACs at 640x640 with 80 classes.
Its neck has no block in its CSP layers. The newer files are in configs/rtmdet/.
"""

_base_ = "_base_/rtmdet.py"

activation = "ReLU"
deepen_factor = 0.33
widen_factor = 0.25
neck_csp_blocks = 0
_recipes_ = {"small": {"batch_size": 8}}
batch_size = 16
imgsz = (320, 320)
