"""TOOD (arXiv 2108.07755) for int8: batch normalization in the head in place of GroupNorm. The boxes' alignment, which
reads the map of distances at places that the network predicts, is the decoder's.
"""

_base_ = "small_data_256_int8.py"

model = dict(
    _delete_=True,
    type="mmdet.TOOD",
    data_preprocessor=_fitting,
    backbone=_nano,
    neck=_pafpn,
    bbox_head=dict(
        type="mmdet.TOODHead",
        num_classes=num_classes,
        in_channels=64,
        feat_channels=64,
        stacked_convs=3,
        norm_cfg=_bn,
        num_dcn=0,
        anchor_type="anchor_free",
        anchor_generator=_one_anchor,
        bbox_coder=dict(
            type="mmdet.DeltaXYWHBBoxCoder", target_means=[0.0, 0.0, 0.0, 0.0], target_stds=[0.1, 0.1, 0.2, 0.2]
        ),
        initial_loss_cls=dict(
            type="mmdet.FocalLoss", use_sigmoid=True, activated=True, gamma=2.0, alpha=0.25, loss_weight=1.0
        ),
        loss_cls=dict(
            type="mmdet.QualityFocalLoss", use_sigmoid=True, activated=True, beta=2.0, loss_weight=1.0
        ),
        loss_bbox=dict(type="mmdet.GIoULoss", loss_weight=2.0),
    ),
    train_cfg=dict(
        initial_epoch=0,
        initial_assigner=dict(type="mmdet.ATSSAssigner", topk=9),
        assigner=dict(type="mmdet.TaskAlignedAssigner", topk=13),
        alpha=1,
        beta=6,
        allowed_border=-1,
        pos_weight=-1,
        debug=False,
    ),
    test_cfg=_found,
)
