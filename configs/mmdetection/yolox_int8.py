"""YOLOX-_nano (arXiv 2107.08430) for int8: ReLU6 in place of SiLU, which is cheaper and loses less."""

_base_ = "small_data_256_int8.py"

model = dict(
    _delete_=True,
    type="mmdet.YOLOX",
    data_preprocessor=_fitting,
    backbone=dict(type="mmdet.CSPDarknet", deepen_factor=0.33, widen_factor=0.25, norm_cfg=_bn, act_cfg=_relu6),
    neck=dict(
        type="mmdet.YOLOXPAFPN",
        in_channels=[64, 128, 256],
        out_channels=64,
        num_csp_blocks=1,
        norm_cfg=_bn,
        act_cfg=_relu6,
    ),
    bbox_head=dict(
        type="mmdet.YOLOXHead", num_classes=num_classes, in_channels=64, feat_channels=64, norm_cfg=_bn, act_cfg=_relu6
    ),
    train_cfg=dict(assigner=dict(type="mmdet.SimOTAAssigner", center_radius=2.5)),
    test_cfg=dict(score_thr=0.01, nms=dict(type="nms", iou_threshold=0.65)),
)
