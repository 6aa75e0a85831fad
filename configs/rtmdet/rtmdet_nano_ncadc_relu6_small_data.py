"""RTMDet-nano, ReLU6, no channel attention, for 100 to 10 000 pictures of your own and training from random weights.

The network of rtmdet_nano_8xb32_300e_coco_ncadc_relu6.py (2.437 M parameters, 0.925 GMACs at 320x320, 2 classes):
what runs on the device is the same, the recipe is "small" whatever the number of epochs. What is in it,
what to change for your number of pictures, and what was measured: docs/recipes.md.
"""

_base_ = "rtmdet_nano_8xb32_300e_coco_ncadc_relu6.py"

recipe = "small"
imgsz = (320, 320)
epochs = 60
qat_epochs = 5
