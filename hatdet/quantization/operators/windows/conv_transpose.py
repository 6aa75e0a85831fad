"""Transposed convolutions."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from hatdet.integer.operators.windows.conv_transpose import ConvTransposeOp, sums, transposed
from hatdet.integer.operators.windows.weighted import Sums, weight_settings
from hatdet.integer.operators.windows.window import Pair
from hatdet.quantization.operators.base import Step
from hatdet.quantization.operators.windows.weighted import Gradients, WeightedForm, as_kernel, check_weight
from hatdet.quantization.qat.quantized_conv import QuantizedConv2d
from hatdet.quantization.qat.shared_conv import LeafConv2d
from hatdet.quantization.tracing.refusals import NoModule, pair


class _Transposed(nn.Conv2d):
    """Makes a convolution of its weight (O, I, kh, kw) the transposed one."""

    output_padding: Pair  # type: ignore[assignment]

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return transposed(input, weight, bias, pair(self.stride), pair(self.padding), self.output_padding)


class TransposedConv2d(_Transposed, LeafConv2d):
    """``nn.ConvTranspose2d`` with the weight's dimensions in a convolution's order."""

    @classmethod
    def of(cls, conv: nn.ConvTranspose2d) -> TransposedConv2d:
        new = cast(TransposedConv2d, cls.like_geometry(cast(nn.Conv2d, conv), bias=conv.bias is not None))
        new.weight, new.bias = as_kernel(conv.weight, _swapped, _swapped), conv.bias
        new.output_padding = pair(conv.output_padding)
        return new.train(conv.training)


class QuantizedTransposedConv2d(_Transposed, QuantizedConv2d):
    """A transposed convolution with quantized weights."""

    stands_for = (TransposedConv2d,)

    def take(self, conv: nn.Conv2d) -> None:
        assert isinstance(conv, _Transposed)
        self.output_padding = conv.output_padding


class ConvTranspose(WeightedForm):
    op = ConvTransposeOp
    modules = (TransposedConv2d,)
    spelled = (nn.ConvTranspose2d,)
    floats = (TransposedConv2d,)
    quantized = (QuantizedTransposedConv2d,)

    def check(self, module: nn.Module) -> None:
        if not isinstance(module, nn.ConvTranspose2d):
            return
        name = type(module).__name__
        check_weight(module)
        if module.groups != 1:
            raise NoModule(
                f"{name} with groups={module.groups}, which no runtime has",
                "use groups=1, or Upsample(scale_factor=2) and a grouped Conv2d",
            )
        if pair(module.dilation) != (1, 1):
            raise NoModule(
                f"{name} with dilation={module.dilation}, which no runtime has", "use dilation=1 and a larger kernel"
            )

    def canonical(self, module: nn.Module) -> list[tuple[str, nn.Module]]:
        return [("", TransposedConv2d.of(module) if isinstance(module, nn.ConvTranspose2d) else module)]

    def settings(self, module: nn.Module | None) -> dict[str, Any]:
        assert isinstance(module, QuantizedTransposedConv2d)
        geometry = {name: pair(getattr(module, name)) for name in ("stride", "padding", "output_padding")}
        return {**geometry, "activation": module.activation, **weight_settings(module.weight.shape)}

    def sums(self, step: Step, weight: Tensor, bias: Tensor, zero: int, parts: int) -> Sums:
        geometry = _geometry(step)
        return lambda x: sums(x, weight, bias, *geometry, parts)

    def gradients(self, step: Step) -> Gradients:
        stride, padding, output_padding = _geometry(step)

        def of(g: Tensor, x: Tensor, weight: Tensor, wanted: list[bool]) -> tuple[Tensor | None, ...]:
            gx, gw, gb = torch.ops.aten.convolution_backward(
                g, x, weight.transpose(0, 1), [len(weight)], stride, padding, [1, 1], True, output_padding, 1, wanted
            )
            return gx, None if gw is None else gw.transpose(0, 1), gb

        return of


def _swapped(weight: Tensor) -> Tensor:
    return weight.transpose(0, 1)


def _geometry(step: Step) -> tuple[Pair, Pair, Pair]:
    return step.arguments["stride"], step.arguments["padding"], step.arguments["output_padding"]
