"""FOMO with MobileNetV2 0.35 for gray pictures of 96 x 96, as the smallest cameras give them.

18 722 parameters with one class: the stem has 288 fewer than that of three channels (fomo_mobilenetv2_035.py).
"""

_base_ = "fomo_mobilenetv2_035.py"

imgsz = (96, 96)
input_color = "gray"
