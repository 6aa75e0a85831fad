"""The QAT recipe of SSCMA for nano_relu (its ``relu_q``): 5 epochs at 2e-5. The network is nano_relu's.

Float and calibration stages are those of rtmdet_nano_8xb32_300e_coco_relu.py; start from its checkpoint:
quantization.py CONFIG CHECKPOINT, or train.py --stage qat with ckpt_dir=<its work dir>.
"""

_base_ = "rtmdet_nano_8xb32_300e_coco_relu.py"

qat_epochs = 5
qat_lr = 2e-5
