"""FCOS (arXiv 1904.01355) for int8: batch normalization in the head in place of GroupNorm, which integers have not."""

_base_ = "small_data_256_int8.py"

model = dict(
    _delete_=True,
    type="mmdet.FCOS",
    data_preprocessor=_fitting,
    backbone=_nano,
    neck=_pafpn,
    bbox_head=dict(
        type="mmdet.FCOSHead",
        **_tower,
        strides=[8, 16, 32],
        regress_ranges=((-1, 48), (48, 96), (96, 1e8)),
        norm_on_bbox=True,
        centerness_on_reg=True,
        center_sampling=True,
        loss_cls=dict(type="mmdet.FocalLoss", use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        loss_bbox=dict(type="mmdet.GIoULoss", loss_weight=1.0),
        loss_centerness=dict(type="mmdet.CrossEntropyLoss", use_sigmoid=True, loss_weight=1.0),
    ),
    test_cfg=_found,
)
