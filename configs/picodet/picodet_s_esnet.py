"""PicoDet-S of the first release, as published: ESNet x0.75, CSP-PAN, SimOTA from the first epoch on.

0.993 M parameters and 0.351 GMACs at 320x320 with 80 classes (published: 0.99 M). Options: ../_base_/picodet.py.
"""

_base_ = "../_base_/picodet.py"

widen_factor = 0.75  # times 128, 256, 512 channels in the stages of ESNet
neck = "CSPPAN"
align = False
out_indices = (2, 3, 4)

model = dict(
    backbone=dict(
        type="ESNet",
        channel_ratio=(0.875, 0.5, 0.5, 0.5, 0.625, 0.5, 0.625, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5),
    ),
    bbox_head=dict(channel_attention=False, loss_bbox=dict(loss_weight=2.0), loss_dfl=dict(loss_weight=0.25)),
    train_cfg=dict(
        _delete_=True, assigner=dict(type="mmdet.SimOTAAssigner", candidate_topk=10, iou_weight=6.0)
    ),
)
