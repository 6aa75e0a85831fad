"""Bias correction: what rounding adds to the mean of a channel is taken out of its bias.

Source: M. Nagel, M. van Baalen, T. Blankevoort, M. Welling, "Data-Free Quantization Through Weight Equalization and
Bias Correction" (ICCV 2019), section 4.2 and appendix D: the empirical form, layer after layer on images.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hatdet.quantization.ptq.walk import Visit
from hatdet.quantization.qat.fake_quant import BIAS_TO_WEIGHT
from hatdet.quantization.qat.quantized_conv import QuantizedConv2d


def rounded_weight(conv: QuantizedConv2d) -> Tensor:
    """The real values (O, I / g, kh, kw) of the integer weights."""
    return conv.weight_fake_quant.codes(conv.weight) * conv.channel_scale().view(-1, 1, 1, 1)


@torch.no_grad()
def correct_bias(visit: Visit) -> float:
    """Add to the bias what the mean of each channel, before the activation, lacks of that of the float network.

    Bounded by what an int32 bias may be: 2**14 steps of the channel's weights.

    Returns:
        The largest correction.
    """
    conv = visit.conv
    weight = rounded_weight(conv)
    total, count = torch.zeros(conv.out_channels, dtype=torch.float64, device=weight.device), 0
    for exact, rounded in zip(visit.exact, visit.rounded, strict=True):
        error = visit.sums(exact, visit.weight, visit.bias) - visit.sums(rounded, weight, conv.bias)
        total += error.sum((0, 2, 3), dtype=torch.float64)
        count += error.shape[0] * error.shape[2] * error.shape[3]
    assert conv.bias is not None
    limit = conv.channel_scale() * BIAS_TO_WEIGHT
    limit = torch.maximum(limit, conv.bias.abs())  # hardsigmoid's has its own room
    change = (total / count).float()
    corrected = torch.minimum(torch.maximum(conv.bias + change, -limit), limit)
    largest = float((corrected - conv.bias).abs().max())
    conv.bias.copy_(corrected)
    return largest
