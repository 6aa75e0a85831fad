import own_transform  # noqa: F401  # it registers DarkCorners

_base_ = "hatdet:rtmdet/rtmdet_nano_ncadc_relu6_small_data.py"

_corners = dict(type="DarkCorners", strength=(0.2, 0.6))
# Pixels change after geometry, and before ToTensor, which is last.
train_transforms = [*train_transforms[:-1], _corners, train_transforms[-1]]  # noqa: F821  # from _base_
data_loader = dict(dataset=dict(transforms=train_transforms))
