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
from hatdet.integer.rounding import to_uint8
from hatdet.quantization.operators.base import Step
from hatdet.quantization.operators.windows.weighted import Gradients, WeightedForm, as_kernel, check_weight
from hatdet.quantization.qat.live_bn import BnConv2d
from hatdet.quantization.qat.quantized_conv import QuantizedBnConv2d, QuantizedConv2d, QuantizedSharedConv2d
from hatdet.quantization.qat.shared_conv import LeafConv2d, SharedConv2d
from hatdet.quantization.tracing.refusals import NoModule, pair


class Conv(WeightedForm):
    op = ConvOp
    modules = (nn.Conv2d, LeafConv2d)
    spelled = (nn.Linear,)
    of_vectors = (nn.Linear,)
    subclasses = (LeafConv2d, QuantizedConv2d)
    written = ("x * c", "x + c", "c - x", "x / c", "-x")  # with constants: folded, or one pixel large
    floats = (nn.Conv2d, SharedConv2d, BnConv2d)
    quantized = (QuantizedConv2d, QuantizedSharedConv2d, QuantizedBnConv2d)

    def check(self, module: nn.Module) -> None:
        name = type(module).__name__
        check_weight(module)
        if not isinstance(module, nn.Conv2d):
            return
        if module.padding_mode != "zeros":
            raise NoModule(
                f"{name} with padding {module.padding!r} ({module.padding_mode})", "set padding_mode='zeros'"
            )

    def canonical(self, module: nn.Module) -> list[tuple[str, nn.Module]]:
        if isinstance(module, nn.Linear):
            return [("", _on_one_pixel(module))]
        if not isinstance(module, nn.Conv2d) or not isinstance(module.padding, str):
            return [("", module)]
        conv = copy.copy(module)
        (top, bottom), (left, right) = _sides(module)
        if top == bottom and left == right:
            conv.padding = top, left
            return [("", conv)]
        conv.padding = 0, 0
        return [("_pad", nn.ZeroPad2d((left, right, top, bottom))), ("", conv)]

    def settings(self, module: nn.Module | None) -> dict[str, Any]:
        assert isinstance(module, QuantizedConv2d)
        geometry = {name: pair(getattr(module, name)) for name in ("stride", "padding", "dilation")}
        own = {"groups": module.groups, "activation": module.activation}
        return {**geometry, **own, **weight_settings(module.weight.shape)}

    def sums(self, step: Step, weight: Tensor, bias: Tensor, zero: int, parts: int) -> Sums:
        geometry = _geometry(step)
        if zero == -128 and geometry[-1] == 1 and weight.device.type == "cpu" and onednn.available():
            packed = onednn.packed_conv(weight, bias, 0, *geometry, parts)
            return lambda x: packed(to_uint8(x))
        return lambda x: convolve(x, weight, bias, *geometry, parts)

    def gradients(self, step: Step) -> Gradients:
        *geometry, groups = _geometry(step)
        backward = torch.ops.aten.convolution_backward
        return lambda g, x, w, wanted: backward(g, x, w, [len(w)], *geometry, False, [0, 0], groups, wanted)


def _on_one_pixel(linear: nn.Linear) -> nn.Conv2d:
    """The convolution of kernel 1 that does to a map of one pixel what a matrix does to a vector."""
    conv = nn.Conv2d(linear.in_features, linear.out_features, 1, bias=linear.bias is not None, device="meta")
    conv.weight = as_kernel(linear.weight, lambda matrix: matrix[:, :, None, None], lambda kernel: kernel[:, :, 0, 0])
    conv.bias = linear.bias
    return conv.train(linear.training)


def _sides(conv: nn.Conv2d) -> tuple[Pair, Pair]:
    """Rows (above, below) and columns (left, right) of zeros that ``padding="valid"`` or ``"same"`` means; with an even
    kernel the latter has one more after than before."""
    total = [d * (k - 1) for d, k in zip(pair(conv.dilation), pair(conv.kernel_size), strict=True)]
    rows, columns = ((n // 2, n - n // 2) if conv.padding == "same" else (0, 0) for n in total)
    return rows, columns


def _geometry(step: Step) -> tuple[Pair, Pair, Pair, int]:
    """Stride, padding, dilation and groups."""
    a = step.arguments
    return a["stride"], a["padding"], a["dilation"], a["groups"]
