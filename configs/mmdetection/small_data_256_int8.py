"""What the int8 forms of MMDetection's detectors in this folder share: pictures of 256 x 256, 24 epochs, CSPNeXt-nano
with ReLU6 whose three maps have 64 channels each behind a PAFPN. The recipe is that of
rtmdet_nano_ncadc_relu6_small_data.py (docs/recipes.md); what was measured: docs/results.md.
"""

_base_ = "../rtmdet/rtmdet_nano_ncadc_relu6_small_data.py"

imgsz = (256, 256)
epochs = 24
qat_epochs = 2

_relu6 = dict(type="ReLU6")
_bn = dict(type="BN")
_fitting = dict(type="mmdet.DetDataPreprocessor", mean=[0.0, 0.0, 0.0], std=[255.0, 255.0, 255.0])
_nano = dict(
    type="mmdet.CSPNeXt",
    deepen_factor=0.33,
    widen_factor=0.25,
    channel_attention=False,
    norm_cfg=_bn,
    act_cfg=_relu6,
)
_pafpn = dict(
    type="mmdet.CSPNeXtPAFPN",
    in_channels=[64, 128, 256],
    out_channels=64,
    num_csp_blocks=1,
    norm_cfg=_bn,
    act_cfg=_relu6,
)
_tower = dict(num_classes=num_classes, in_channels=64, feat_channels=64, stacked_convs=2, norm_cfg=_bn)
_one_anchor = dict(
    type="mmdet.AnchorGenerator", ratios=[1.0], octave_base_scale=6, scales_per_octave=1, strides=[8, 16, 32]
)
_found = dict(
    nms_pre=1000, min_bbox_size=0, score_thr=0.01, nms=dict(type="nms", iou_threshold=0.6), max_per_img=100
)
