"""NanoDet-Plus with ShuffleNetV2 0.5x, ReLU6, for 100 to 10 000 pictures of your own and training from random weights.

0.489 M parameters with 3 classes and batch norms folded, 0.083 GMACs at 192x192: below what is published.

The recipe is that of ../rtmdet/rtmdet_nano_ncadc_relu6_small_data.py; what each line does: docs/recipes.md.
"""

_base_ = "nanodet_plus_m_300e_coco_relu6.py"

model_size = "0.5x"
epochs = 60
lr = 2e-3
clip_grad_norm = 35.0
amp = "auto"
mixup_prob = 0.0
class_balance = 0.5
qat_epochs = 5
