"""SSDLite (arXiv 1801.04381) with MobileNetV2 for int8; the softmax of the classes is the decoder's."""

_base_ = "small_data_256_int8.py"

model = dict(
    _delete_=True,
    type="mmdet.SingleStageDetector",
    data_preprocessor=_fitting,
    backbone=dict(type="mmdet.MobileNetV2", widen_factor=0.5, out_indices=(2, 4, 6), norm_cfg=_bn, act_cfg=_relu6),
    neck=dict(type="mmdet.ChannelMapper", in_channels=[16, 48, 160], out_channels=64, kernel_size=1, norm_cfg=_bn,
              act_cfg=_relu6),
    bbox_head=dict(
        type="mmdet.SSDHead",
        num_classes=num_classes,
        in_channels=(64, 64, 64),
        use_depthwise=True,
        norm_cfg=_bn,
        act_cfg=_relu6,
        anchor_generator=dict(
            type="mmdet.SSDAnchorGenerator",
            scale_major=False,
            strides=[8, 16, 32],
            ratios=[[2, 3], [2, 3], [2, 3]],
            min_sizes=[16, 48, 104],
            max_sizes=[48, 104, 160],
        ),
        bbox_coder=dict(
            type="mmdet.DeltaXYWHBBoxCoder", target_means=[0.0, 0.0, 0.0, 0.0], target_stds=[0.1, 0.1, 0.2, 0.2]
        ),
    ),
    train_cfg=dict(
        assigner=dict(
            type="mmdet.MaxIoUAssigner",
            pos_iou_thr=0.5,
            neg_iou_thr=0.5,
            min_pos_iou=0.0,
            ignore_iof_thr=-1,
            gt_max_assign_all=False,
        ),
        sampler=dict(type="mmdet.PseudoSampler"),
        smoothl1_beta=1.0,
        allowed_border=-1,
        pos_weight=-1,
        neg_pos_ratio=3,
        debug=False,
    ),
    test_cfg=dict(_found, score_thr=0.02, nms=dict(type="nms", iou_threshold=0.45)),
)
