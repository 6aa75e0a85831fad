import own_backbone  # noqa: F401  # it registers ThinNet

_base_ = "hatdet:rtmdet/rtmdet_nano_ncadc_relu6_small_data.py"

model = dict(backbone=dict(_delete_=True, type="ThinNet"))
