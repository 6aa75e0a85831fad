"""YOLOX-tiny, ReLU6, for 100 to 10 000 pictures of your own and training from random weights.

The network of yolox_tiny_8xb8_300e_coco_relu6.py with the recipe "small" whatever the number
of epochs: docs/recipes.md.
"""

_base_ = "yolox_tiny_8xb8_300e_coco_relu6.py"

recipe = "small"
imgsz = (320, 320)
epochs = 60
qat_epochs = 5
norm_momentum = 0.1  # a short training: the statistics of an epoch ago are another network's
