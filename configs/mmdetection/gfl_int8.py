"""GFL (arXiv 2006.04388) for int8: batch normalization in the head in place of GroupNorm, and 8 bins a side, whose
softmax and mean are the decoder's (at 256 pixels no side is 8 strides from its centre on its level).
"""

_base_ = "small_data_256_int8.py"

model = dict(
    _delete_=True,
    type="mmdet.GFL",
    data_preprocessor=_fitting,
    backbone=_nano,
    neck=_pafpn,
    bbox_head=dict(
        type="mmdet.GFLHead",
        **_tower,
        anchor_generator=_one_anchor,
        reg_max=8,
        loss_cls=dict(type="mmdet.QualityFocalLoss", use_sigmoid=True, beta=2.0, loss_weight=1.0),
        loss_dfl=dict(type="mmdet.DistributionFocalLoss", loss_weight=0.25),
        loss_bbox=dict(type="mmdet.GIoULoss", loss_weight=2.0),
    ),
    train_cfg=dict(assigner=dict(type="mmdet.ATSSAssigner", topk=9), allowed_border=-1, pos_weight=-1, debug=False),
    test_cfg=_found,
)
