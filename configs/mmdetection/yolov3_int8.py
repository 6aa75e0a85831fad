"""YOLOv3 (arXiv 1804.02767) with MobileNetV2 for int8; one map a level, whose numbers the decoder takes apart."""

_base_ = "small_data_256_int8.py"

model = dict(
    _delete_=True,
    type="mmdet.YOLOV3",
    data_preprocessor=_fitting,
    backbone=dict(type="mmdet.MobileNetV2", widen_factor=0.5, out_indices=(2, 4, 6), norm_cfg=_bn, act_cfg=_relu6),
    neck=dict(
        type="mmdet.YOLOV3Neck",
        num_scales=3,
        in_channels=[160, 48, 16],
        out_channels=[64, 64, 64],
        norm_cfg=_bn,
        act_cfg=_relu6,
    ),
    bbox_head=dict(
        type="mmdet.YOLOV3Head",
        num_classes=num_classes,
        in_channels=[64, 64, 64],
        out_channels=[64, 64, 64],
        norm_cfg=_bn,
        act_cfg=_relu6,
        anchor_generator=dict(
            type="mmdet.YOLOAnchorGenerator",
            base_sizes=[
                [(88, 84), (112, 104), (160, 150)],
                [(44, 40), (56, 52), (64, 72)],
                [(12, 12), (20, 18), (30, 28)],
            ],
            strides=[32, 16, 8],
        ),
        bbox_coder=dict(type="mmdet.YOLOBBoxCoder"),
        featmap_strides=[32, 16, 8],
        loss_cls=dict(type="mmdet.CrossEntropyLoss", use_sigmoid=True, loss_weight=1.0, reduction="sum"),
        loss_conf=dict(type="mmdet.CrossEntropyLoss", use_sigmoid=True, loss_weight=1.0, reduction="sum"),
        loss_xy=dict(type="mmdet.CrossEntropyLoss", use_sigmoid=True, loss_weight=2.0, reduction="sum"),
        loss_wh=dict(type="mmdet.MSELoss", loss_weight=2.0, reduction="sum"),
    ),
    train_cfg=dict(assigner=dict(type="mmdet.GridAssigner", pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0)),
    test_cfg=dict(_found, conf_thr=0.005, nms=dict(type="nms", iou_threshold=0.45)),
)
