"""Convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from hatdet.integer import onednn
from hatdet.integer.arithmetic import conv_multiplier, prepare_requantization, prepare_requantization16
from hatdet.integer.kernels import (
    TensorRequantization,
    accumulator_bounds,
    convolve,
    parts_needed,
    requantize_,
    requantize_to_codes,
)
from hatdet.integer.operators.base import REMEDY, Kernel, Machine, OneInput, RealFunction, Settings
from hatdet.integer.operators.pointwise.limits import real_limits
from hatdet.integer.operators.windows.window import Pair, check_window, window_sizes
from hatdet.integer.tensors import Shape
from hatdet.utils.errors import UserError


@dataclass(frozen=True, eq=False)
class ConvOp(OneInput):
    """Convolution (dense, grouped or depthwise) with symmetric zero padding as torch's, and a fused activation.

    acc = sum w * (x - Zx) + bias; y = clamp(MBQM(acc; Sx * Sw_c / Sy) + Zy, lo, hi). A padded position contributes 0.
    An output of 16 bits has the reduced multiplier instead: ``arithmetic.prepare_requantization16``.
    """

    kind: ClassVar[str] = "conv"
    wide_output: ClassVar[bool] = True
    setting_names: ClassVar[tuple[str, ...]] = ("stride", "padding", "dilation", "groups", "activation")
    name: str
    input: str
    output: str
    weight: NDArray[np.int8]  # (O, I / groups, kh, kw)
    bias: NDArray[np.int32]  # (O,), scale Sx * Sw_c, zero point 0
    weight_scale: NDArray[np.float32]  # (O,)
    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int
    activation: str  # none, relu, relu6
    lo: int
    hi: int

    @property
    def settings(self) -> dict[str, Any]:
        return {**super().settings, **weight_settings(self.weight.shape)}

    @classmethod
    def shape_of(cls, shapes: Sequence[Shape], settings: Settings) -> Shape:
        kernel, stride, padding, dilation = (settings[n] for n in ("kernel", "stride", "padding", "dilation"))
        return settings["channels"], *window_sizes(shapes[0], kernel, stride, padding, dilation)

    @classmethod
    def real(cls, settings: Settings) -> RealFunction:
        limits = real_limits(settings["activation"])
        geometry = tuple(settings[name] for name in ("stride", "padding", "dilation", "groups"))
        return lambda x, w, b: limits(F.conv2d(x[0], w, b, *geometry))  # type: ignore[arg-type]

    def check(self, shapes: Sequence[Shape]) -> None:
        if not np.all(np.isfinite(self.weight_scale)):
            raise ValueError(f"operator {self.name!r} has weight scales that are not finite")
        self._check_groups(shapes[0][0])
        check_window(self, shapes[0], self.weight.shape[2:], self.stride, self.padding, self.dilation)

    def _check_groups(self, channels: int) -> None:
        if self.weight.ndim != 4 or 0 in self.weight.shape:
            raise self.refusal(
                f"a weight of shape {self.weight.shape}", "(outputs, inputs / groups, rows, columns)"
            )
        outputs, inputs = self.weight.shape[:2]
        if self.groups < 1 or outputs % self.groups or inputs * self.groups != channels:
            raise UserError(
                f"convolution {self.name!r}: weight {self.weight.shape} in {self.groups} groups "
                f"does not fit {channels} input channels: {REMEDY}"
            )
        for name, values in (("bias", self.bias), ("weight_scale", self.weight_scale)):
            if values.shape != (outputs,):
                raise self.refusal(f"a {name} of shape {values.shape}", f"one number for each of {outputs} outputs")

    @property
    def stored(self) -> tuple[NDArray[Any], ...]:
        return self.weight, self.bias

    def macs(self, output: Shape) -> int:
        return int(np.prod(self.weight.shape)) * output[1] * output[2]

    def make_kernel(self, machine: Machine) -> Kernel:
        px, py = machine.qparams(self.input), machine.qparams(self.output)
        weight = torch.from_numpy(self.weight.astype(np.float32)).to(machine.device)
        bias = torch.from_numpy(self.bias.astype(np.float64)).to(machine.device)
        x_lo, x_hi = -128 - px.zero_point, 127 - px.zero_point
        bounds = accumulator_bounds(weight, bias, x_lo, x_hi)
        parts = parts_needed(weight, bias, x_lo, x_hi, bounds)
        if parts == 0:
            bias = bias.float()
        multiplier = conv_multiplier(px.scale, self.weight_scale, py.scale)
        prepare = prepare_requantization16 if py.bits == 16 else prepare_requantization
        req = TensorRequantization(prepare(multiplier, bounds.cpu().numpy()), machine.device)
        lo, hi, zero = self.lo - py.zero_point, self.hi - py.zero_point, py.zero_point + 128
        int8 = machine.int8
        if int8 and (parts <= 1 or self.groups == 1):
            geometry = (px.zero_point + 128, self.stride, self.padding, self.dilation, self.groups)
            packed = onednn.packed_conv(weight, bias, *geometry, parts)
            if py.bits == 16:
                return lambda x: requantize_(packed(x[0]), req, lo, hi)
            return lambda x: requantize_to_codes(packed(x[0]), req, lo, hi, zero)
        weight = weight.contiguous(memory_format=torch.channels_last)

        def run(x: list[Tensor]) -> Tensor:
            centred = x[0].float() - (px.zero_point + 128) if int8 else x[0]
            acc = convolve(centred, weight, bias, self.stride, self.padding, self.dilation, self.groups, parts)
            if int8 and py.bits == 8:
                return requantize_to_codes(acc, req, lo, hi, zero)
            return requantize_(acc, req, lo, hi)

        return run


def weight_settings(shape: Sequence[int]) -> dict[str, Any]:
    """What the weight (O, I / groups, kh, kw) of a convolution adds to its settings."""
    return {"channels": int(shape[0]), "kernel": (int(shape[2]), int(shape[3]))}
