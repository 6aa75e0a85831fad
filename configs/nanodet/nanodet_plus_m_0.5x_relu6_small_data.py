"""NanoDet-Plus with ShuffleNetV2 0.5x, ReLU6, for 100 to 10 000 pictures of your own and training from random weights.

0.489 M parameters with 3 classes and batch norms folded, 0.083 GMACs at 192x192: below what is published.

The recipe is "small" whatever the number of epochs: docs/recipes.md.
"""

_base_ = "nanodet_plus_m_300e_coco_relu6.py"

model_size = "0.5x"
recipe = "small"
epochs = 60
qat_epochs = 5
