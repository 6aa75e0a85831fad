"""MMDetection's settings for RTMDet, shared by tiny, s, m, l and x: SiLU, channel attention, a shared head, 640 px.

AdamW with 0.004 for 256 images a step, scaled to the batch that is used; 1000 warm-up steps; EMA with 0.0002. MMYOLO's
settings differ in ``exp_on_reg=False`` alone. An official checkpoint needs the pixel_mean and pixel_std below.
"""

_base_ = "rtmdet.py"

# Of the recipe "small" too: steps of 8 pictures, of which a small data set has many, and what was measured with them.
_recipes_ = {
    "small": {
        "batch_size": 8,
        "lr": 2e-3,
        "base_batch_size": 8,
        "warmup_steps": 200,
        "ema_momentum": 0.001,
        "ema_gamma": 400,
    },
}

activation = "SiLU"
channel_attention = True
share_conv = True
batch_size = 32
val_batch_size = 16
lr = 0.004
base_batch_size = 256
warmup_steps = 1000
ema_momentum = 0.0002
ema_gamma = 2000
pixel_mean = (103.53, 116.28, 123.675)  # B, G, R; folded into the first convolution before quantization
pixel_std = (57.375, 57.12, 58.395)
# Its caches count the current image too (40 and 20); tiny's are half as large and first in, first out.
mosaic_cached = 39
mixup_cached = 19
random_pop = True
long_mixup_prob = 1.0
mixup_beta = None
mixup_ratio = (1.0, 1.0)
