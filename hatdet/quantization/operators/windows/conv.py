"""Convolutions."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from hatdet.integer import onednn
from hatdet.integer.kernels import convolve
from hatdet.integer.operators.windows.conv import ConvOp
from hatdet.integer.operators.windows.weighted import Sums, weight_settings
from hatdet.integer.operators.windows.window import Pair
from hatdet.quantization.operators.base import Step
from hatdet.quantization.operators.windows.weighted import Gradients, WeightedForm
from hatdet.quantization.qat.live_bn import BnConv2d
from hatdet.quantization.qat.quantized_conv import QuantizedBnConv2d, QuantizedConv2d, QuantizedSharedConv2d
from hatdet.quantization.qat.shared_conv import LeafConv2d, SharedConv2d
from hatdet.quantization.tracing.refusals import NoModule, numeric_padding, pair


class Conv(WeightedForm):
    op = ConvOp
    modules = (nn.Conv2d, LeafConv2d)
    subclasses = (LeafConv2d, QuantizedConv2d)
    floats = (nn.Conv2d, SharedConv2d, BnConv2d)
    quantized = (QuantizedConv2d, QuantizedSharedConv2d, QuantizedBnConv2d)

    def check(self, module: nn.Module) -> None:
        assert isinstance(module, nn.Conv2d)
        name = type(module).__name__
        if module.padding_mode != "zeros":
            raise NoModule(
                f"{name} with padding {module.padding!r} ({module.padding_mode})", "set padding_mode='zeros'"
            )
        if numeric_padding(module) is None:
            raise NoModule(
                f"{name} with padding='same' and an even kernel, which pads unevenly",
                "set padding=0 and put nn.ZeroPad2d before it",
            )
        if not isinstance(module.weight, nn.Parameter):
            raise NoModule(
                f"{name} whose weight is computed in each call (weight or spectral normalization)",
                "remove the parametrization from the trained model first",
            )

    def canonical(self, module: nn.Module) -> list[tuple[str, nn.Module]]:
        if isinstance(module, nn.Conv2d) and isinstance(module.padding, str):
            module = copy.copy(module)
            module.padding = numeric_padding(module)  # type: ignore[assignment]
        return [("", module)]

    def settings(self, module: nn.Module | None) -> dict[str, Any]:
        assert isinstance(module, QuantizedConv2d)
        geometry = {name: pair(getattr(module, name)) for name in ("stride", "padding", "dilation")}
        own = {"groups": module.groups, "activation": module.activation}
        return {**geometry, **own, **weight_settings(module.weight.shape)}

    def sums(self, step: Step, weight: Tensor, bias: Tensor, zero: int, parts: int) -> Sums:
        geometry = _geometry(step)
        if zero == -128 and geometry[-1] == 1 and weight.device.type == "cpu" and onednn.available():
            packed = onednn.packed_conv(weight, bias, 0, *geometry, parts)
            return lambda x: packed(onednn.to_uint8(x))
        return lambda x: convolve(x, weight, bias, *geometry, parts)

    def gradients(self, step: Step) -> Gradients:
        *geometry, groups = _geometry(step)
        backward = torch.ops.aten.convolution_backward
        return lambda g, x, w, wanted: backward(g, x, w, [len(w)], *geometry, False, [0, 0], groups, wanted)


def _geometry(step: Step) -> tuple[Pair, Pair, Pair, int]:
    """Stride, padding, dilation and groups."""
    a = step.arguments
    return a["stride"], a["padding"], a["dilation"], a["groups"]
