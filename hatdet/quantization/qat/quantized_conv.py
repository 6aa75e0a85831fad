"""Convolutions with quantized weights: what calibration and QAT run in place of ``nn.Conv2d``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hatdet.integer.operators.limits import real_limits
from hatdet.quantization.operators.pointwise.limits import LIMITED, activation_of
from hatdet.quantization.qat.fake_quant import BIAS_TO_WEIGHT, SMALLEST_WEIGHT_SCALE, QuantizedWeight
from hatdet.quantization.qat.live_bn import BnConv2d, folded_bias, folding_factor
from hatdet.quantization.qat.shared_conv import COARSEST, SharedConv2d, WeightGroup, coarseness, with_gain

ACTIVATIONS: tuple[type[nn.Module], ...] = (*LIMITED, nn.Hardsigmoid)
"""Activations that a convolution takes in."""

_LEAST_SHARED_SCALE = 2.0**-40
"""Of a level whose gain is 0: no accumulator of shared codes then reaches half an output code."""


class ConvAct(nn.Sequential):
    """A convolution and the activation fused into it, before it becomes a :class:`QuantizedConv2d`."""

    def __init__(self, conv: nn.Conv2d, act: nn.Module) -> None:
        super().__init__(conv, act)


class QuantizedConv2d(nn.Conv2d, QuantizedWeight):
    """A convolution with fused activation whose weights are quantized; its forward is torch.ao's fake quantization.
    A subclass takes the place of the modules that it ``stands_for``; its weight is (O, I / g, kh, kw) too.

    Hardsigmoid costs nothing in integers: hardsigmoid(a) = clamp((a + 3) / 6, 0, 1), so 1/6 goes into the weight
    scales, 3 into the bias, and the clamp is that of the output, which is quantized with ``UNIT_INTERVAL``.
    """

    stands_for: ClassVar[tuple[type[nn.Module], ...]] = (nn.Conv2d,)
    activation: str
    suit: Callable[[Tensor], Tensor] | None = None
    """Moves the scales of codes that others use too to where two arithmetics agree."""

    @classmethod
    def from_float(cls, module: nn.Module, use_precomputed_fake_quant: bool = False) -> QuantizedConv2d:
        conv = cast(nn.Conv2d, module[0] if isinstance(module, ConvAct) else module)
        kind = _activation_of(module[1]) if isinstance(module, ConvAct) else "none"
        made = next((kind for kind in _kinds() if type(conv) in (kind, *kind.stands_for)), cls)
        new = made(
            conv.in_channels, conv.out_channels, _pair(conv.kernel_size), _pair(conv.stride), _pair(conv.padding),
            _pair(conv.dilation), conv.groups,
            bias=True, device="meta",
        )  # fmt: skip
        new.weight = conv.weight
        new.bias = conv.bias if conv.bias is not None else nn.Parameter(torch.zeros_like(conv.weight[:, 0, 0, 0]))
        new.activation = kind
        new.qconfig = module.qconfig  # type: ignore[assignment]
        new.weight_fake_quant = module.qconfig.weight()  # type: ignore[union-attr, operator]
        new.weight_fake_quant.allocate(conv.out_channels, conv.weight.device)
        new.take(conv)
        return new

    def take(self, conv: nn.Conv2d) -> None:
        """Take over what is special about the convolution that this one stands for."""

    @property
    def integer_activation(self) -> str:
        """The activation whose limits clamp the output codes."""
        return "none" if self.activation == "hardsigmoid" else self.activation

    def effective_weight(self) -> Tensor:
        """The real weight (O, I / g, kh, kw), before quantization."""
        return self.weight

    def effective_bias(self) -> Tensor:
        """The real bias (O,)."""
        assert self.bias is not None
        return self.bias

    def channel_scale(self) -> Tensor:
        """Scales (O,) of the integer weights as the simulation has them."""
        return self._suited(self.weight_fake_quant.scale.detach())

    def _suited(self, scale: Tensor) -> Tensor:
        return scale if self.suit is None else self.suit(scale)

    def integer_scale(self) -> Tensor:
        """Weight scales (O,) of the integer convolution."""
        scale = self.channel_scale()
        return scale / 6.0 if self.activation == "hardsigmoid" else scale

    def integer_bias(self) -> Tensor:
        """Bias (O,) to be divided by input scale * weight scale of the simulation, float64."""
        bias = self.effective_bias().detach().double()
        return bias + 3.0 if self.activation == "hardsigmoid" else bias

    def observe_weight(self) -> None:
        self.weight_fake_quant.observe(self.weight, self.integer_bias().float())

    def simulated_weight(self) -> Tensor:
        """The fake-quantized weight, or the real one where quantization is off."""
        return cast(Tensor, self.weight_fake_quant(self.weight))

    def simulate(self, x: Tensor) -> Tensor:
        """The convolution, without its activation."""
        return self._conv_forward(x, self.simulated_weight(), self.bias)

    def forward(self, x: Tensor) -> Tensor:
        self.observe_weight()
        return real_limits(self.activation)(self.simulate(x))


def _activation_of(module: nn.Module) -> str:
    return "hardsigmoid" if isinstance(module, nn.Hardsigmoid) else activation_of(module)


def integer_parameters(conv: QuantizedConv2d, input_scale: float) -> tuple[Tensor, Tensor]:
    """Integer weights (O, I/g, kh, kw) and biases (O,) of a convolution, as float32.

    b_int = round(b / (Sx * Sw_c)), in float64; it fits float32 exactly (``WeightFakeQuantize`` sees to that).
    """
    scale = conv.channel_scale().double() * float(np.float32(input_scale))
    return conv.weight_fake_quant.codes(conv.weight), torch.round(conv.integer_bias() / scale).float()


@dataclass(frozen=True)
class StepParameters:
    """What one pass needs of a convolution: its exact parameters, and the scales that they were made with.

    Attributes:
        weight: codes (O, I / g, kh, kw), float32; bias: (O,) integers, float32, the largest magnitude ``bias_peak``.
        weight_scale: (O,) of the codes, this pass's own copy; channel_scale: as the simulation has them.
        integer_scale: (O,) of the integer convolution; bias_scale: (O,) of the bias as it is trained.
    """

    weight: Tensor
    bias: Tensor
    bias_peak: float
    weight_scale: Tensor
    channel_scale: Tensor
    integer_scale: NDArray[np.float32]
    bias_scale: Tensor


@torch.no_grad()
def step_parameters(convs: Sequence[QuantizedConv2d], input_scales: Sequence[float]) -> list[StepParameters]:
    """Observe and quantize the weights of many convolutions at once: a step has as many small operations as one does.

    The numbers are those of :func:`integer_parameters` on each.
    """
    observe_weights(convs)
    sizes = [conv.out_channels for conv in convs]
    device = convs[0].weight.device
    inputs = torch.tensor(np.repeat(np.asarray(input_scales, np.float32), sizes), device=device)
    channel = torch.cat([conv.channel_scale() for conv in convs])
    weight_scale = torch.cat([conv.weight_fake_quant.scale.detach() for conv in convs])
    bias = torch.cat([conv.integer_bias() for conv in convs])
    bias = torch.round(bias / (channel.double() * inputs.double())).float()
    starts = np.cumsum([0, *sizes[:-1]])
    peaks = np.maximum.reduceat(bias.abs().cpu().numpy(), starts).tolist()
    integer = torch.cat([conv.integer_scale() for conv in convs]).cpu().numpy()
    pieces = [t.split(sizes) for t in (bias, weight_scale, channel, channel * inputs)]
    return [
        StepParameters(codes, b, peak, ws, cs, integer[start : start + size], bs)
        for codes, b, ws, cs, bs, peak, start, size in zip(_codes(convs), *pieces, peaks, starts, sizes, strict=True)
    ]


def observe_weights(convs: Sequence[QuantizedConv2d]) -> None:
    """``observe_weight`` of each, those with the plain rule at once."""
    plain = []
    for conv in convs:
        quantizer = conv.weight_fake_quant
        simple = type(conv).observe_weight is QuantizedConv2d.observe_weight
        if not simple or quantizer.step is not None or quantizer.bits != 8 or quantizer.suit is not None:
            conv.observe_weight()
        elif bool(quantizer.observer_enabled[0]):
            plain.append(conv)
    if not plain:
        return
    peak = torch.cat([c.weight.detach().reshape(c.out_channels, -1).abs().amax(1) for c in plain])
    least = torch.cat([c.integer_bias() for c in plain]).float().abs() / BIAS_TO_WEIGHT
    scale = torch.maximum(peak / 127.0, least).clamp(min=SMALLEST_WEIGHT_SCALE)
    pieces = scale.split([c.out_channels for c in plain])
    torch._foreach_copy_([c.weight_fake_quant.scale for c in plain], list(pieces))


def _codes(convs: Sequence[QuantizedConv2d]) -> list[Tensor]:
    """:meth:`WeightFakeQuantize.codes` of each."""
    scales = [conv.weight_fake_quant.scale.detach().view(-1, 1, 1, 1) for conv in convs]
    codes = list(torch._foreach_div([conv.weight.detach() for conv in convs], scales))
    torch._foreach_round_(codes)
    for value, conv in zip(codes, convs, strict=True):
        value.clamp_(conv.weight_fake_quant.quant_min, conv.weight_fake_quant.quant_max)
    return codes


class QuantizedSharedConv2d(QuantizedConv2d):
    """One of several convolutions with the same weight codes: its gain is in its channels' scales."""

    stands_for = (SharedConv2d,)
    norm_parameters = ("gain",)  # for the optimizer: decay of the gain would decay the weight twice
    gain: nn.Parameter
    weight_group: WeightGroup
    weight_index: int
    weight_owner: Tensor

    def take(self, conv: nn.Conv2d) -> None:
        assert isinstance(conv, (SharedConv2d, QuantizedSharedConv2d))
        self.gain = conv.gain
        conv.weight_group.replace(conv.weight_index, self)

    def users(self) -> list[QuantizedSharedConv2d]:
        """All convolutions with this weight, itself too."""
        return self.weight_group.users(int(self.weight_owner))

    def effective_weight(self) -> Tensor:
        return with_gain(self.weight, self.gain.abs())

    def channel_scale(self) -> Tensor:
        scale = self.weight_fake_quant.scale.detach() * self.gain.detach().abs()
        least = self.integer_bias().float().abs() / BIAS_TO_WEIGHT
        return self._suited(torch.maximum(scale, least).clamp(min=_LEAST_SHARED_SCALE))

    @torch.no_grad()
    def observe_weight(self) -> None:
        """As coarse as the level needs whose bias is largest for its gain, within ``COARSEST`` of the finest."""
        peak = self.weight.detach().reshape(len(self.weight), -1).abs().amax(1)
        users = [u for u in self.users() if u.bias is not None]
        needs = torch.stack(
            [coarseness(peak, u.gain.detach(), u.integer_bias().float(), BIAS_TO_WEIGHT) for u in users]
        )
        coarse = torch.minimum(needs.amax(0), COARSEST * needs.amin(0))
        self.weight_fake_quant.observe(self.weight, peak * coarse * (BIAS_TO_WEIGHT / 127.0))

    def simulated_weight(self) -> Tensor:
        weight = super().simulated_weight()
        gain = self.gain.abs()
        if bool(self.weight_fake_quant.fake_quant_enabled[0]):
            gain = gain + (self.channel_scale() / self.weight_fake_quant.scale - gain).detach()
        return with_gain(weight, gain)


class QuantizedBnConv2d(QuantizedConv2d):
    """A convolution whose folded weights are quantized, with its batch normalization alive (see ``live_bn``)."""

    stands_for = (BnConv2d,)
    bn: nn.BatchNorm2d

    def take(self, conv: nn.Conv2d) -> None:
        assert isinstance(conv, (BnConv2d, QuantizedBnConv2d))
        self.bn, self.bias = conv.bn, conv.bias

    def effective_weight(self) -> Tensor:
        return with_gain(self.weight, folding_factor(self.bn))

    def effective_bias(self) -> Tensor:
        return folded_bias(self.bn, self.bias)

    def observe_weight(self) -> None:
        self.weight_fake_quant.observe(self.effective_weight(), self.integer_bias().float())

    def simulate(self, x: Tensor) -> Tensor:
        folded = self.weight_fake_quant(self.effective_weight())
        if not self.bn.training:
            return self._conv_forward(x, folded, self.effective_bias())
        if not bool(self.weight_fake_quant.fake_quant_enabled[0]):
            return cast(Tensor, self.bn(self._conv_forward(x, self.weight, self.bias)))
        factor = folding_factor(self.bn)
        gone = factor == 0  # such channels cannot be divided by it: they keep their weights unquantized
        weight = torch.where(gone.view(-1, 1, 1, 1), self.weight, folded)
        y = self._conv_forward(x, weight, None) / torch.where(gone, 1.0, factor).view(1, -1, 1, 1)
        return cast(Tensor, self.bn(y if self.bias is None else y + self.bias.view(1, -1, 1, 1)))


def _kinds() -> list[type[QuantizedConv2d]]:
    """All of them; each stands for itself too, because torch.ao swaps inside a ConvAct first."""
    kinds = [QuantizedConv2d]
    for kind in kinds:
        kinds += kind.__subclasses__()
    return kinds


def _pair(value: Any) -> tuple[int, int]:
    return (int(value), int(value)) if isinstance(value, int) else (int(value[0]), int(value[1]))
