"""Weight scales with which two arithmetics requantize a convolution's sums alike, while it trains and when it ships.

They depend on the scales of the convolution's input and output. A weight that one convolution uses has a scale of its
own, and is rounded for it. One that several use keeps its codes, and each of them moves its channels' scales a little:
by 1 / (2 N) on average, for a multiplier of about 1 / N.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hatdet.integer.agreement.multipliers import agreeing_weight_scale
from hatdet.quantization.qat.fake_quant import ActivationFakeQuantize
from hatdet.quantization.qat.fx_adapter import Plan, QuantizedConv2d
from hatdet.quantization.qat.quantized_conv import QuantizedSharedConv2d


class Suit:
    """Moves scales (C,) to where both arithmetics agree; while ranges are unknown, nowhere."""

    def __init__(self, x: ActivationFakeQuantize, y: ActivationFakeQuantize, divisor: float, nearest: bool) -> None:
        self.x, self.y, self.divisor, self.nearest = x, y, divisor, nearest

    @torch.no_grad()
    def __call__(self, scale: Tensor) -> Tensor:
        if self.y.bits == 16 or not (self.x.calibrated and self.y.calibrated):
            return scale  # sums of 16 bits have one kernel
        reach = max(127 - int(self.y.zero_point), int(self.y.zero_point) + 128)
        moved = agreeing_weight_scale(
            float(self.x.scale), scale.detach().cpu().numpy(), float(self.y.scale), reach, self.divisor, self.nearest
        )
        return torch.from_numpy(moved).to(scale.device)


def suit_weights(plan: Plan) -> None:
    """Let the weight scales of a plan follow its activations' from now on."""
    convs = [(step, step.module) for step in plan.steps if isinstance(step.module, QuantizedConv2d)]
    users = [id(conv.weight_fake_quant) for _, conv in convs]
    for step, conv in convs:
        alone = users.count(id(conv.weight_fake_quant)) == 1 and not isinstance(conv, QuantizedSharedConv2d)
        divisor = 6.0 if conv.activation == "hardsigmoid" else 1.0
        suit = Suit(plan.quantizers[step.inputs[0]], plan.quantizers[step.output], divisor, not alone)
        if alone:
            conv.weight_fake_quant.suit = suit
        else:
            conv.suit = suit


@torch.no_grad()
def follow_activations(plan: Plan) -> None:
    """Move the weight scales to the activations' present ones, those that are frozen too."""
    for step in plan.steps:
        if isinstance(step.module, QuantizedConv2d):
            step.module.observe_weight()
            quantizer = step.module.weight_fake_quant
            if quantizer.suit is not None:
                quantizer.scale.copy_(quantizer.suit(quantizer.scale))
