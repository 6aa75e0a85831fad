import own_arithmetic  # noqa: F401  # it makes the arithmetic known

_base_ = "hatdet:rtmdet/rtmdet_nano_ncadc_relu6_small_data.py"

arithmetic = "dsp16"
