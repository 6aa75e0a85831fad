"""RTMDet with MobileNetV4-Conv-Small, as SSCMA's first tutorial has it: SiLU in the neck and the shared head.

10.044 M parameters and 25.492 GMACs at 640x640 with 80 classes.
Published backbone weights (timm's names) load through load_from=FILE. The newer files are in configs/rtmdet/.
"""

_base_ = "_base_/rtmdet_mmdet.py"

deepen_factor = 0.33
neck_csp_blocks = 1
head_channels = 256
_recipes_ = {"small": {"batch_size": 8}}
batch_size = 16

model = dict(backbone=dict(_delete_=True, type="MobileNetV4", out_indices=(2, 3, 4), frozen_stages=frozen_stages))
