"""The quantizers of activations and weights: the one place where a scale lives.

Simulation, integer forward, lowering and export all read the buffers ``scale`` and ``zero_point`` of these modules.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.ao.quantization.fake_quantize import FakeQuantizeBase

from hatdet.integer.operators.windows.weighted import WEIGHT_LIMITS
from hatdet.quantization.qat.learned_steps import QuantizeLearned, least_squares_scale, scale_of, step_of
from hatdet.quantization.qat.observers import SMALLEST_SCALE, RangeObserver
from hatdet.utils.errors import UserError

BIAS_TO_WEIGHT = 2.0**14
"""A bias is at most so many weight steps (before the input scale): keeps int32 biases of dead channels in range."""
SMALLEST_WEIGHT_SCALE = 2.0**-24


class ActivationFakeQuantize(FakeQuantizeBase):
    """Affine per-tensor fake quantization of an activation with straight-through gradients; int8, or int16
    (:meth:`widen`)."""

    ema_copy_buffers = True
    scale: Tensor
    zero_point: Tensor

    def __init__(self, observer: str = "moving_average", averaging_constant: float = 0.01) -> None:
        super().__init__()
        self.dtype, self.is_dynamic = torch.qint8, False
        self.quant_min, self.quant_max = -128, 127
        self.qscheme = torch.per_tensor_affine
        self.activation_post_process = RangeObserver(observer, averaging_constant)
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("zero_point", torch.zeros((), dtype=torch.int32))
        self.fixed = False
        self.register_load_state_dict_pre_hook(_check_bits)

    @property
    def bits(self) -> int:
        """Bits of a code: 8, or 16 with zero point 0."""
        return self.activation_post_process.bits

    def widen(self) -> None:
        """Let codes have 16 bits."""
        self.activation_post_process.bits = 16
        self.quant_min, self.quant_max = -(2**15), 2**15 - 1

    def fix(self, scale: float, zero_point: int) -> None:
        """Pin the quantization: no observation changes it any more."""
        self.scale.fill_(scale)
        self.zero_point.fill_(zero_point)
        self.fixed = True

    @property
    def observing(self) -> bool:
        return not self.fixed and bool(self.observer_enabled[0])

    @property
    def calibrated(self) -> bool:
        """Whether the quantization comes from data (or is fixed)."""
        return self.fixed or int(self.activation_post_process.count) > 0

    def commit(self) -> None:
        """Take this step's ranges over into ``scale`` and ``zero_point``."""
        if self.activation_post_process.commit() and not self.fixed:
            self.refresh()

    def refresh(self) -> None:
        """Take ``scale`` and ``zero_point`` from the recorded range."""
        scale, zero_point = self.activation_post_process.calculate_qparams()
        self.scale.copy_(scale)
        self.zero_point.copy_(zero_point)

    @torch.no_grad()
    def copy_quantization(self, other: ActivationFakeQuantize) -> None:
        """Take over scale, zero point and range."""
        self.scale.copy_(other.scale)
        self.zero_point.copy_(other.zero_point)
        ours, theirs = self.activation_post_process, other.activation_post_process
        for name in ("min_val", "max_val", "count"):
            getattr(ours, name).copy_(getattr(theirs, name))

    def calculate_qparams(self, **kwargs: Any) -> tuple[Tensor, Tensor]:
        return self.scale, self.zero_point

    def forward(self, x: Tensor) -> Tensor:
        if self.observing:
            self.activation_post_process(x)
        if not bool(self.fake_quant_enabled[0]):
            return x
        return torch.fake_quantize_per_tensor_affine(x, self.scale, self.zero_point, self.quant_min, self.quant_max)


def bits_of(state: Mapping[str, Any], prefix: str) -> int | None:
    """For how many bits a stored quantization was made; None: it has none.

    Told by the codes that its range takes, and where that range is next to nothing, by the scale: no scale of 8 bits is
    below ``SMALLEST_SCALE``, and one of 16 bits that is not covers its range with tens of thousands of codes.
    """
    names = [f"{prefix}{name}" for name in ("scale", *(f"activation_post_process.{v}_val" for v in ("min", "max")))]
    count = state.get(f"{prefix}activation_post_process.count")
    if count is None or int(count) == 0 or not all(name in state for name in names):
        return None
    scale, low, high = (float(state[name]) for name in names)
    wide = scale < SMALLEST_SCALE or max(high, 0.0) - min(low, 0.0) > 1000.0 * scale
    return 16 if wide else 8


def _check_bits(module: Any, state: dict[str, Any], prefix: str, *_: Any) -> None:
    stored = bits_of(state, prefix)
    if stored is not None and stored != module.bits and not module.fixed:
        raise UserError(
            f"the weights are of a model whose outputs have {stored} bits, this config's have {module.bits}: set "
            f"int16_output={stored == 16} (in qconfig_params, or of the head), or run calibration and QAT again"
        )


class WeightFakeQuantize(FakeQuantizeBase):
    """Symmetric per-output-channel fake quantization of a weight; codes in [-127, 127], of 4 bits in [-7, 7].

    scale_c = max(max|w_c| / 127, |b_c| * 2**-14): the second term keeps the int32 bias small where a
    channel's folded weights are nearly zero. With 4 bits the first one is the scale of least squared error. Once scales
    are learned (:meth:`learn`) it is the trained one.
    """

    ema_copy_buffers = True
    scale: Tensor
    zero_point: Tensor
    step: nn.Parameter | None
    norm_parameters = ("step",)  # for the optimizer: decay is for weights

    def __init__(self) -> None:
        super().__init__()
        self.register_parameter("step", None)
        self.held = torch.zeros(0, dtype=torch.bool)  # channels whose scale is the bias's, not the learned one
        self.suit: Callable[[Tensor], Tensor] | None = None  # moves scales to where two arithmetics agree
        self.dtype, self.is_dynamic = torch.qint8, False
        self.quant_min, self.quant_max = -127, 127
        self.qscheme, self.ch_axis = torch.per_channel_symmetric, 0
        self.register_buffer("scale", torch.ones(0))
        self.register_buffer("zero_point", torch.zeros(0, dtype=torch.int32))

    @property
    def bits(self) -> int:
        return next(bits for bits, limit in WEIGHT_LIMITS.items() if limit == self.quant_max)

    def set_bits(self, bits: int) -> None:
        """Let codes have 8 or 4 bits; scales follow at the next observation."""
        self.quant_min, self.quant_max = -WEIGHT_LIMITS[bits], WEIGHT_LIMITS[bits]

    @torch.no_grad()
    def learn(self) -> None:
        """Let the present scales be trained from now on; observation no longer changes them."""
        self.step = nn.Parameter(step_of(self.scale, self.quant_max))
        self.held = torch.zeros_like(self.scale, dtype=torch.bool)

    def forget(self) -> None:
        """Let the scales follow the weights again."""
        self.step = None

    def like(self) -> WeightFakeQuantize:
        """Another quantizer with the same settings and scales."""
        return copy.deepcopy(self)

    def allocate(self, channels: int, device: torch.device) -> None:
        self.scale = torch.ones(channels, device=device)
        self.zero_point = torch.zeros(channels, dtype=torch.int32, device=device)

    @torch.no_grad()
    def observe(self, weight: Tensor, bias: Tensor | None) -> None:
        """Set the scales from the weights (O, ...) and biases (O,), unless observation is off; learned ones always."""
        if self.step is not None:
            scale = scale_of(self.step, self.quant_max)
        elif not bool(self.observer_enabled[0]):
            return
        elif self.bits == 8:
            scale = weight.detach().reshape(weight.shape[0], -1).abs().amax(1) / 127.0
        else:
            scale = least_squares_scale(weight, self.quant_max)
        if bias is not None:
            least = bias.detach().abs() / BIAS_TO_WEIGHT
            self.held = scale < least
            scale = torch.maximum(scale, least)
        scale = scale.clamp(min=SMALLEST_WEIGHT_SCALE)
        self.scale.copy_(scale if self.suit is None else self.suit(scale))

    def calculate_qparams(self, **kwargs: Any) -> tuple[Tensor, Tensor]:
        return self.scale, self.zero_point

    def codes(self, weight: Tensor) -> Tensor:
        """Integer weights as float32: clamp(round(w / scale), -127, 127), of 4 bits within [-7, 7]."""
        shape = (-1,) + (1,) * (weight.dim() - 1)
        return torch.round(weight.detach() / self.scale.view(shape)).clamp_(self.quant_min, self.quant_max)

    def forward(self, weight: Tensor) -> Tensor:
        if not bool(self.fake_quant_enabled[0]):
            return weight
        if self.step is not None:
            learned: Tensor = QuantizeLearned.apply(weight, self.step, self.scale, self.held, self.quant_max)
            return learned
        return torch.fake_quantize_per_channel_affine(
            weight, self.scale, self.zero_point, 0, self.quant_min, self.quant_max
        )


class QuantizedWeight(nn.Module, ABC):
    """A module whose weight is quantized by ``weight_fake_quant``."""

    weight_fake_quant: WeightFakeQuantize

    @abstractmethod
    def observe_weight(self) -> None:
        """Set the weight's scales from what it is now, unless observation is off."""
