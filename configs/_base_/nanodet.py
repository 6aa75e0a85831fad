"""What all NanoDet-Plus share (RangiLyu/nanodet): the network, on the data, schedule and four stages of rtmdet.py.

Every option of rtmdet.py but those of its own network (deepen_factor, widen_factor, channel_attention, use_depthwise,
spp_pooling, share_conv, exp_on_reg, initial_distance, neck_in_channels, neck_csp_blocks) is one here too.
"""

_base_ = "rtmdet.py"

imgsz = (320, 320)  # (height, width) of the network's input; multiples of 32
model_size = "1.0x"  # of ShuffleNetV2: 0.5x, 1.0x, 1.5x, 2.0x
head_channels = 96  # of neck and head
activation = "LeakyReLU"  # ReLU6 for NPUs
upsample = "bilinear"  # in the neck; nearest: cheaper
soft_center_radius = 3.0  # of the assignment, as in RTMDet; 1e6: a prior's place costs nothing, as published

model = dict(
    _delete_=True,
    type="NanoDetPlus",
    input_color=input_color,
    preprocessor=model["preprocessor"],
    backbone=dict(type="ShuffleNetV2", model_size=model_size, frozen_stages=frozen_stages, activation=activation),
    neck=dict(type="GhostPAN", out_channels=head_channels, upsample=upsample, activation=activation),
    bbox_head=dict(
        type="NanoDetPlusHead",
        num_classes=num_classes,
        feat_channels=head_channels,
        strides=(*strides, 2 * strides[-1]),  # the last map need not have whole cells: pictures are multiples of 32
        activation=activation,
    ),
    train_cfg=dict(
        assigner=dict(
            type="mmdet.DynamicSoftLabelAssigner", topk=13, iou_weight=3.0, soft_center_radius=soft_center_radius
        )
    ),
    test_cfg=dict(
        nms_pre=1000, min_bbox_size=0, score_thr=0.001, nms=dict(type="nms", iou_threshold=0.6), max_per_img=100
    ),
)
