"""What operators with weights have in common: sums of products, requantized with a scale for each output channel."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hatdet.integer.kernels import accumulator_bounds, parts_needed
from hatdet.integer.native.kernels import Kernels, NativeConv
from hatdet.integer.native.requantization import Fused
from hatdet.integer.operators.base import Kernel, Machine, OneInput
from hatdet.integer.profile import WeightedSums
from hatdet.integer.tensors import Shape

Sums = Callable[[Tensor], Tensor]
"""Codes of the input -> accumulators."""
WEIGHT_LIMITS = {8: 127, 4: 7}
"""Largest magnitude of a weight's code, by its bits: symmetric, so one code of each is never used."""


def packed_bytes(count: int, bits: int) -> int:
    """Bytes that so many codes take one after another; the last byte of an odd number of 4-bit codes is half empty."""
    return -(-count * bits // 8)


class WeightedOp(OneInput):
    """acc = sum w * (x - Zx) + bias; y = clamp(MBQM(acc; Sx * Sw_c / Sy) + Zy, lo, hi).

    An output of 16 bits has the reduced multiplier instead: ``arithmetic.prepare_requantization16``. Subclasses say
    which products are summed.
    """

    weight_layout: ClassVar[str] = "(outputs, inputs / groups, rows, columns)"
    weight: NDArray[np.int8]  # (O, I / groups, kh, kw)
    bias: NDArray[np.int32]  # (O,), scale Sx * Sw_c, zero point 0
    weight_scale: NDArray[np.float32]  # (O,)
    activation: str  # as arithmetic.limits_name says it
    lo: int
    hi: int
    weight_bits: int  # 8, or 4: codes in [-7, 7], of which a file may store two a byte

    @property
    def settings(self) -> dict[str, Any]:
        return {**super().settings, **weight_settings(self.weight.shape)}

    @property
    def stored(self) -> tuple[NDArray[Any], ...]:
        return self.weight, self.bias

    @property
    def stored_bytes(self) -> tuple[int, ...]:
        return packed_bytes(self.weight.size, self.weight_bits), self.bias.nbytes

    def check(self, shapes: Sequence[Shape]) -> None:
        if not np.all(np.isfinite(self.weight_scale)):
            raise ValueError(f"operator {self.name!r} has weight scales that are not finite")
        if self.weight.ndim != 4 or 0 in self.weight.shape:
            raise self.refusal(f"a weight of shape {self.weight.shape}", self.weight_layout)
        if self.weight_bits not in WEIGHT_LIMITS:
            raise self.refusal(f"weights of {self.weight_bits} bits", "8 or 4")
        largest = int(np.abs(self.weight.astype(np.int16)).max())
        if self.weight_bits < 8 and largest > WEIGHT_LIMITS[self.weight_bits]:
            limit, found = WEIGHT_LIMITS[self.weight_bits], f"a weight code of magnitude {largest}"
            raise self.refusal(f"{found} in {self.weight_bits} bits", f"-{limit} to {limit}")
        outputs = len(self.weight)
        for name, values in (("bias", self.bias), ("weight_scale", self.weight_scale)):
            if values.shape != (outputs,):
                raise self.refusal(f"a {name} of shape {values.shape}", f"one number for each of {outputs} outputs")

    @abstractmethod
    def sums(self, x: Tensor, weight: Tensor, bias: Tensor, parts: int) -> Tensor:
        """Accumulators of centred codes ``x``, exact in so many parts (:func:`~hatdet.integer.kernels.accumulate`)."""

    def packed(self, zero: int, weight: Tensor, bias: Tensor, parts: int) -> Sums | None:
        """The same on int8 kernels, of codes with this zero point in [0, 255]; None: there are none."""
        return None

    def native(self, kernels: Kernels, fused: Fused, zero: int, limits: tuple[int, int, int]) -> NativeConv | None:
        """The same on the kernels in C, to bytes; None: there are none. Arguments: those of ``NativeConv``."""
        return None

    def with_outputs(self, channels: Sequence[int]) -> Any | None:
        return self.picked(channels)

    def with_inputs(self, channels: Sequence[int]) -> Any | None:
        return replace(_data(self), weight=np.ascontiguousarray(self.weight[:, np.argsort(channels)]))

    def picked(self, channels: Sequence[int]) -> Any:
        """With the listed outputs."""
        taken = {name: getattr(self, name)[list(channels)] for name in ("weight", "bias", "weight_scale")}
        return replace(_data(self), **taken)

    def make_kernel(self, machine: Machine) -> Kernel:
        px, py = machine.qparams(self.input), machine.qparams(self.output)
        weight = torch.from_numpy(self.weight.astype(np.float32)).to(machine.device)
        bias = torch.from_numpy(self.bias.astype(np.float64)).to(machine.device)
        x_lo, x_hi = -128 - px.zero_point, 127 - px.zero_point
        bounds = accumulator_bounds(weight, bias, x_lo, x_hi)
        parts = parts_needed(weight, bias, x_lo, x_hi, bounds)
        if parts == 0:
            bias = bias.float()
        sums = WeightedSums(px.scale, self.weight_scale, py, bounds.cpu().numpy(), machine.device)
        req = machine.profile.sums(sums)
        lo, hi, zero = self.lo - py.zero_point, self.hi - py.zero_point, py.zero_point + 128
        int8 = machine.int8
        fused = getattr(req, "fused", None) if py.bits == 8 else None  # not all have it
        if machine.native and fused is not None and fused.takes(sums.bound):
            native = self.native(machine.native, fused, px.zero_point + 128, (lo, hi, zero))
            if native is not None:
                return lambda x: native(x[0])
        packed = self.packed(px.zero_point + 128, weight, bias, parts) if int8 else None
        if packed is not None:
            if py.bits == 16:
                return lambda x: req.centred(packed(x[0]), lo, hi)
            return lambda x: req.codes(packed(x[0]), lo, hi, zero)
        weight = weight.contiguous(memory_format=torch.channels_last)

        def run(x: list[Tensor]) -> Tensor:
            centred = x[0].float() - (px.zero_point + 128) if int8 else x[0]
            acc = self.sums(centred, weight, bias, parts)
            if int8 and py.bits == 8:
                return req.codes(acc, lo, hi, zero)
            return req.centred(acc, lo, hi)

        return run


def _data(op: Any) -> Any:
    """An operator as the dataclass that its class is."""
    return op


def weight_settings(shape: Sequence[int]) -> dict[str, Any]:
    """What the weight (O, I / groups, kh, kw) adds to an operator's settings."""
    return {"channels": int(shape[0]), "kernel": (int(shape[2]), int(shape[3]))}
