"""What all PicoDets share (arXiv 2111.00902): the network of the second release, XS unless a config says otherwise.

Data, schedule, stages and every other option are those of rtmdet.py; its recipe "auto" is "small" with these epochs
for up to 30 000 pictures (docs/recipes.md).
"""

_base_ = "rtmdet.py"

imgsz = (320, 320)
epochs = 60
qat_epochs = 5

widen_factor = 0.35  # times 32, 64, 128, 256, 512 channels in the stages of LCNet
activation = "Hardswish"  # ReLU6 for NPUs
channel_attention = True  # squeeze-and-excitation in backbone and head; False for NPUs
neck = "LCPAN"  # CSPPAN: that of the first release and of the NPU form
head_channels = 96  # of neck and head
stacked_convs = 2  # of each level of the head
align = True  # scores are roots of products with a map of their own; False: sigmoids of the classes
initial_epochs = epochs // 3  # of the float training, whose priors ATSS chooses; later ones: those that do best
out_indices = (4, 5, 6)  # stages of LCNet, at strides 8, 16, 32; (3, 4, 5): 4, 8, 16
strides = (8, 16, 32, 64)  # of the maps that the head sees: the stages', and twice the last
size_divisor = strides[-2]  # of imgsz: maps that are joined have whole cells, the last one needs none

_pixels = model["preprocessor"]
model = dict(
    _delete_=True,
    type="PicoDet",
    input_color=input_color,
    preprocessor=_pixels,
    backbone=dict(
        type="LCNet",
        widen_factor=widen_factor,
        out_indices=out_indices,
        channel_attention=channel_attention,
        frozen_stages=frozen_stages,
        activation=activation,
    ),
    neck=dict(type=neck, out_channels=head_channels, activation=activation),
    bbox_head=dict(
        type="PicoHead",
        num_classes=num_classes,
        strides=strides,
        stacked_convs=stacked_convs,
        reg_max=7,
        channel_attention=channel_attention,
        align=align,
        activation=activation,
        loss_cls=dict(type="mmdet.VarifocalLoss", use_sigmoid=True, alpha=0.75, gamma=2.0, iou_weighted=True),
        loss_bbox=dict(type="mmdet.GIoULoss", loss_weight=2.5),
        loss_dfl=dict(type="mmdet.DistributionFocalLoss", loss_weight=0.5),
    ),
    train_cfg=dict(
        initial_epoch=initial_epochs,
        initial_assigner=dict(type="mmdet.ATSSAssigner", topk=9),
        assigner=dict(type="mmdet.TaskAlignedAssigner", topk=13),
        alpha=1.0,
        beta=6.0,
    ),
    test_cfg=dict(score_thr=0.001, nms_pre=1000, nms=dict(type="nms", iou_threshold=0.6), max_per_img=100),
)

float_trainer = dict(callbacks=[dict(type="SetEpochInfo"), *float_trainer["callbacks"]])
