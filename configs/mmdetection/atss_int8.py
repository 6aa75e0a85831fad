"""ATSS (arXiv 1912.02424) for int8: batch normalization in the head in place of GroupNorm, which integers have not."""

_base_ = "small_data_256_int8.py"

model = dict(
    _delete_=True,
    type="mmdet.ATSS",
    data_preprocessor=_fitting,
    backbone=_nano,
    neck=_pafpn,
    bbox_head=dict(
        type="mmdet.ATSSHead",
        **_tower,
        anchor_generator=_one_anchor,
        bbox_coder=dict(
            type="mmdet.DeltaXYWHBBoxCoder", target_means=[0.0, 0.0, 0.0, 0.0], target_stds=[0.1, 0.1, 0.2, 0.2]
        ),
        loss_cls=dict(type="mmdet.FocalLoss", use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        loss_bbox=dict(type="mmdet.GIoULoss", loss_weight=2.0),
        loss_centerness=dict(type="mmdet.CrossEntropyLoss", use_sigmoid=True, loss_weight=1.0),
    ),
    train_cfg=dict(assigner=dict(type="mmdet.ATSSAssigner", topk=9), allowed_border=-1, pos_weight=-1, debug=False),
    test_cfg=_found,
)
