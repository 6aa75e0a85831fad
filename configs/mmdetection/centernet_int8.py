"""CenterNet (arXiv 1904.07850), its deconvolutions without deformable ones, for int8; the decoder finds the peaks.

The backbone ends at a stride of 16: from random weights a map of 32, as the paper has it, learns small objects late.
"""

_base_ = "small_data_256_int8.py"

model = dict(
    _delete_=True,
    type="mmdet.CenterNet",
    data_preprocessor=_fitting,
    backbone=dict(type="mmdet.MobileNetV2", widen_factor=0.5, out_indices=(4,), norm_cfg=_bn, act_cfg=_relu6),
    neck=dict(
        type="mmdet.CTResNetNeck",
        in_channels=48,
        num_deconv_filters=(96, 64),
        num_deconv_kernels=(4, 4),
        use_dcn=False,
    ),
    bbox_head=dict(
        type="mmdet.CenterNetHead",
        num_classes=num_classes,
        in_channels=64,
        feat_channels=64,
        loss_center_heatmap=dict(type="mmdet.GaussianFocalLoss", loss_weight=1.0),
        loss_wh=dict(type="mmdet.L1Loss", loss_weight=0.1),
        loss_offset=dict(type="mmdet.L1Loss", loss_weight=1.0),
    ),
    train_cfg=None,
    test_cfg=dict(topk=100, local_maximum_kernel=3, max_per_img=100),
)
