import own_head  # noqa: F401  # it registers LeanHead

_base_ = "hatdet:rtmdet/rtmdet_nano_ncadc_relu6_small_data.py"

model = dict(bbox_head=dict(_delete_=True, type="LeanHead", num_classes=num_classes))  # noqa: F821  # from _base_
