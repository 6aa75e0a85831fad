"""What all YOLOX share (arXiv 2107.08430): the network, on the data, schedule and four stages of rtmdet.py.

Every option of rtmdet.py but those of its own network (channel_attention, spp_pooling, share_conv, exp_on_reg,
neck_in_channels), and but for input_color="gray", is one here too. The parts are MMDetection's, under its names of
parameters: load_from takes its checkpoints.
"""

_base_ = "rtmdet.py"

imgsz = (416, 416)  # (height, width) of the network's input; multiples of 32
activation = "SiLU"  # ReLU6 for NPUs
use_depthwise = False  # depthwise separable 3x3 convolutions everywhere but in the stem
norm_momentum = 0.03  # of batch norms: share of the present batch in the statistics that evaluation takes
late_epochs = max(1, min(15, epochs // 3))  # the last ones: no Mosaic, no MixUp, and an L1 loss of boxes

_parts = dict(
    use_depthwise=use_depthwise,
    norm_cfg=dict(type="BN", momentum=norm_momentum, eps=0.001),
    act_cfg=dict(type=activation),
)
model = dict(
    _delete_=True,
    type="mmdet.YOLOX",
    data_preprocessor=model["preprocessor"],
    backbone=dict(
        type="mmdet.CSPDarknet",
        deepen_factor=deepen_factor,
        widen_factor=widen_factor,
        frozen_stages=frozen_stages,
        **_parts,
    ),
    neck=dict(
        type="mmdet.YOLOXPAFPN",
        in_channels=[int(channels * widen_factor) for channels in (256, 512, 1024)],
        out_channels=head_channels,
        num_csp_blocks=neck_csp_blocks,
        **_parts,
    ),
    bbox_head=dict(
        type="mmdet.YOLOXHead",
        num_classes=num_classes,
        in_channels=head_channels,
        feat_channels=head_channels,
        strides=strides,
        initial_distance=initial_distance,
        **_parts,
    ),
    train_cfg=dict(assigner=dict(type="mmdet.SimOTAAssigner", center_radius=2.5)),
    test_cfg=dict(score_thr=0.001, nms=dict(type="nms", iou_threshold=0.65)),
)

# the last epochs learn the four numbers of a box too, not their overlap alone
float_trainer["callbacks"] = [
    dict(callback, type="YOLOXModeSwitch") if callback["type"] == "PipelineSwitch" else callback
    for callback in float_trainer["callbacks"]
]
