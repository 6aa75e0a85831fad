"""RTMDet with EfficientNet-Lite0, from ImageNet weights, for 50 to 10 000 pictures of your own."""

_base_ = "rtmdet_nano_ncadc_relu6_small_data.py"

lite = 0  # version of EfficientNet-Lite: 0 to 4; published weights: 0, 1, 2
pretrained = f"efficientnet_lite{lite}"
frozen_stages = 1
norm_eval = True
backbone_lr = 0.3
stage_decay = 0.9
epochs = 36

model = dict(
    backbone=dict(
        _delete_=True, type="EfficientNetLite", version=lite, frozen_stages=frozen_stages, norm_eval=norm_eval
    ),
)
