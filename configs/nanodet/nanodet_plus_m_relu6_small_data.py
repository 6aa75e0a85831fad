"""NanoDet-Plus-m, ReLU6, for 100 to 10 000 pictures of your own and training from random weights.

The recipe is "small" whatever the number of epochs: docs/recipes.md.
"""

_base_ = "nanodet_plus_m_300e_coco_relu6.py"

recipe = "small"
epochs = 60
qat_epochs = 5
