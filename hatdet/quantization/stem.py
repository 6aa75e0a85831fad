"""Weights of a network for colour pictures, as the start of one for gray pictures."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

logger = logging.getLogger("hatdet")


def gray_stem(model: nn.Module, weights: Mapping[str, Tensor], source: Mapping[str, Any]) -> dict[str, Tensor]:
    """``weights`` with those of a convolution of three input channels made to fit the model's convolution of one.

    A gray picture as B, G, R is three times the same level: the kernels of the three channels are added up. As YUV444
    it has no colour, U = V = 128, which is 0 after the normalization that such networks are trained with: the kernel
    of Y is taken. Where the normalization differs between channels the result is a start and no equal network.

    Args:
        source: the checkpoint; its record says which colours it was trained with, three colours where it does not.
    """
    found = dict(weights)
    trained = source.get("run")
    recorded = trained.get("model") if isinstance(trained, Mapping) else None
    yuv = isinstance(recorded, Mapping) and recorded.get("input_color") == "yuv444"
    for name, module in model.named_modules():
        key = f"{name}.weight"
        weight = found.get(key)
        if not isinstance(module, nn.Conv2d) or module.in_channels != 1 or not isinstance(weight, Tensor):
            continue
        if weight.shape == (module.out_channels, 3, *module.kernel_size):
            found[key] = weight[:, :1].clone() if yuv else weight.sum(1, keepdim=True)
            how = "that of Y is taken" if yuv else "they are added"
            logger.info("%s has three input channels in the file, the pictures have one: %s", key, how)
    return found
