"""Norms, activations and first weights that several parts have by default."""

from __future__ import annotations

import math

from hatdet.utils.annotations import Spec

BN: Spec = {"type": "BN"}
LEARNED_BN: Spec = {"type": "BN", "requires_grad": True}
YOLO_BN: Spec = {"type": "BN", "momentum": 0.03, "eps": 0.001}
RELU: Spec = {"type": "ReLU"}
LEAKY: Spec = {"type": "LeakyReLU", "negative_slope": 0.1}
SWISH: Spec = {"type": "Swish"}
SILU: Spec = {"type": "SiLU"}
XAVIER: Spec = {"type": "Xavier", "layer": "Conv2d", "distribution": "uniform"}
CAFFE2_XAVIER: Spec = {"type": "Caffe2Xavier", "layer": "Conv2d"}
KAIMING: list[Spec] = [
    {"type": "Kaiming", "layer": "Conv2d"},
    {"type": "Constant", "val": 1, "layer": ["_BatchNorm", "GroupNorm"]},
]
AS_TORCH: Spec = {
    "type": "Kaiming", "layer": "Conv2d", "a": math.sqrt(5), "distribution": "uniform", "mode": "fan_in",
    "nonlinearity": "leaky_relu",
}  # fmt: skip
"""What ``nn.Conv2d`` begins with."""
