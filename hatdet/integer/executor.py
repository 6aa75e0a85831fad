"""Runs an :class:`~hatdet.integer.graph.IntGraph` in torch, batched, to the last bit as the profile's kernels do.

Two backends with equal results: ``float32`` carries centred codes as floats and convolves in float32 (any device);
``int8`` carries uint8 codes through oneDNN's int8 kernels (CPUs where these prove exact), about twice as fast.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, overload

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hatdet.integer import onednn
from hatdet.integer.activations import activation_table
from hatdet.integer.arithmetic import (
    add_table,
    conv_multiplier,
    mul_table,
    prepare_requantization,
    prepare_requantization16,
    requantize_table,
)
from hatdet.integer.graph import (
    ActivationOp,
    AddOp,
    AveragePoolOp,
    ClampOp,
    ConcatOp,
    ConvOp,
    GlobalAveragePoolOp,
    IntGraph,
    IntOp,
    MaxPoolOp,
    MulOp,
    PadOp,
    RequantizeOp,
    ResizeBilinearOp,
    ResizeNearestOp,
)
from hatdet.integer.kernels import (
    TensorRequantization,
    accumulator_bounds,
    average_pool,
    convolve,
    global_average_pool,
    lookup,
    lookup_pairs,
    max_pool,
    pad,
    parts_needed,
    requantize_,
    requantize_to_codes,
    resize_bilinear,
)

Kernel = Callable[[list[Tensor]], Tensor]
BACKENDS = ("auto", "int8", "float32")
_DTYPES = {8: torch.int8, 16: torch.int16}


class IntExecutor:
    """The integer network as a function of int8 codes.

    Args:
        graph: what to run; any image size that its strides allow, not only the recorded one.
        device: where to run; ``cpu`` by default.
        backend: ``auto`` takes ``int8`` where it proves exact, else ``float32``.

    Raises:
        ValueError: an unknown backend, or ``int8`` where it is not available.
    """

    def __init__(self, graph: IntGraph, device: torch.device | str = "cpu", backend: str = "auto") -> None:
        if backend not in BACKENDS:
            raise ValueError(f"unknown backend {backend!r}; use one of {', '.join(BACKENDS)}")
        self.graph = graph
        self.device = torch.device(device)
        possible = self.device.type == "cpu" and backend != "float32" and onednn.available()
        if backend == "int8" and not possible:
            raise ValueError("the int8 backend needs a CPU on which oneDNN's int8 convolutions are exact; use 'auto'")
        self.backend = "int8" if possible else "float32"
        self._steps = [(op, self._kernel(op)) for op in graph.ops]
        last = {name: i for i, op in enumerate(graph.ops) for name in op.inputs}
        keep = set(graph.outputs)
        self._free: list[list[str]] = [[] for _ in graph.ops]
        for name, i in last.items():
            if name not in keep:
                self._free[i].append(name)

    @overload
    def __call__(self, codes: Tensor, keep: Literal[False] = False) -> tuple[Tensor, ...]: ...
    @overload
    def __call__(self, codes: Tensor, keep: Literal[True]) -> dict[str, Tensor]: ...
    def __call__(self, codes: Tensor, keep: bool = False) -> tuple[Tensor, ...] | dict[str, Tensor]:
        """int8 codes (B, C, H, W) -> the outputs as int8 (or int16) codes, or with ``keep`` every tensor by name.

        Raises:
            TypeError: ``codes`` is not int8.
        """
        if codes.dtype != torch.int8:
            raise TypeError(f"the executor takes int8 codes, got {codes.dtype}")
        values = self._run(codes.to(self.device, torch.float32) - self._zero(self.graph.inputs[0]), keep)
        names = list(values) if keep else list(self.graph.outputs)
        coded = {n: (values[n] + self._zero(n)).to(_DTYPES[self.graph.qparams(n).bits]) for n in names}
        return coded if keep else tuple(coded.values())

    def run_real(self, images: Tensor) -> tuple[Tensor, ...]:
        """Normalized images (B, C, H, W) -> the outputs dequantized: scale * (code - zero point), float32."""
        q = self.graph.qparams(self.graph.inputs[0])
        centred = torch.round(images / q.scale).clamp_(-128 - q.zero_point, 127 - q.zero_point)
        values = self._run(centred, False)
        return tuple(values[n] * self.graph.qparams(n).scale for n in self.graph.outputs)

    def _carry(self, centred: Tensor, name: str) -> Tensor:
        """Centred codes as the backend carries this tensor; one of 16 bits is float32 in both."""
        if self.backend == "float32" or self.graph.qparams(name).bits == 16:
            return centred
        return onednn.to_uint8(centred + (self._zero(name) + 128))

    def _to_centred(self, carried: Tensor, name: str) -> Tensor:
        """Inverse of :meth:`_carry`."""
        if self.backend == "float32" or self.graph.qparams(name).bits == 16:
            return carried
        return carried.float() - (self._zero(name) + 128)

    def _zero(self, name: str) -> int:
        return self.graph.qparams(name).zero_point

    @torch.no_grad()
    def _run(self, centred: Tensor, keep: bool) -> dict[str, Tensor]:
        """Centred input codes -> centred codes (float32) of the outputs, or of every tensor."""
        first = self.graph.inputs[0]
        start = centred.contiguous(memory_format=torch.channels_last)
        values = {first: self._carry(start, first)}
        with torch.autocast(self.device.type, enabled=False):  # float32 holds the integers, 16 bits would not
            for (op, kernel), free in zip(self._steps, self._free, strict=True):
                values[op.output] = kernel([values[name] for name in op.inputs])
                if not keep:
                    for name in free:
                        del values[name]
        return {name: self._to_centred(value, name) for name, value in values.items()}

    def _kernel(self, op: IntOp) -> Kernel:
        if isinstance(op, ConvOp):
            return self._conv(op)
        if isinstance(op, (AddOp, MulOp)):
            return self._pairs(op)
        if isinstance(op, GlobalAveragePoolOp):
            zero = self._input_zero(op.input)
            return lambda x: global_average_pool(x[0], zero)
        if isinstance(op, AveragePoolOp):
            zero = self._input_zero(op.input)
            return lambda x: average_pool(x[0], op.kernel, op.stride, zero)
        if isinstance(op, ResizeBilinearOp):
            zero = self._input_zero(op.input)
            return lambda x: resize_bilinear(x[0], op.factor, zero)
        if isinstance(op, ClampOp):
            zero = self._input_zero(op.input)
            return lambda x: x[0].clamp(op.lo - zero, op.hi - zero)
        if isinstance(op, PadOp):
            real_zero = self._zero(op.input) - self._input_zero(op.input)
            return lambda x: pad(x[0], op.padding, real_zero)
        if isinstance(op, ConcatOp):
            return lambda x: torch.cat(x, 1)
        if isinstance(op, MaxPoolOp):
            return lambda x: max_pool(x[0], op.kernel, op.stride, op.padding)
        if isinstance(op, ResizeNearestOp):
            return lambda x: F.interpolate(x[0], scale_factor=float(op.factor), mode="nearest")
        assert isinstance(op, (RequantizeOp, ActivationOp)), op
        px, py = self.graph.qparams(op.input), self.graph.qparams(op.output)
        if isinstance(op, ActivationOp):
            table = activation_table(op.function, px, py)
        else:
            table = requantize_table(px.scale, px.zero_point, py.scale, py.zero_point)
        codes, zero = self._table(table, py.zero_point), self._input_zero(op.input)
        return lambda x: lookup(x[0], codes, zero)

    def _table(self, table: np.ndarray, zero: int) -> Tensor:
        """A table of int8 results in the representation that the backend carries."""
        flat = table.reshape(-1).astype(np.int32)
        carried = (flat + 128).astype(np.uint8) if self.backend == "int8" else (flat - zero).astype(np.float32)
        return torch.from_numpy(carried).to(self.device)

    def _input_zero(self, name: str) -> int:
        """The number that makes ``carried value + it`` the int8 code."""
        return -128 if self.backend == "int8" else self._zero(name)

    def _pairs(self, op: AddOp | MulOp) -> Kernel:
        p1, p2, py = (self.graph.qparams(n) for n in (op.input1, op.input2, op.output))
        scales, zeros = (p1.scale, p2.scale, py.scale), (p1.zero_point, p2.zero_point, py.zero_point)
        table = add_table(scales, zeros, op.lo, op.hi) if isinstance(op, AddOp) else mul_table(scales, zeros)
        pairs = self._table(table, py.zero_point)
        z1, z2 = self._input_zero(op.input1), self._input_zero(op.input2)
        return lambda x: lookup_pairs(x[0], x[1], pairs, z1, z2)

    def _conv(self, op: ConvOp) -> Kernel:
        px, py = self.graph.qparams(op.input), self.graph.qparams(op.output)
        weight = torch.from_numpy(op.weight.astype(np.float32)).to(self.device)
        bias = torch.from_numpy(op.bias.astype(np.float64)).to(self.device)
        x_lo, x_hi = -128 - px.zero_point, 127 - px.zero_point
        bounds = accumulator_bounds(weight, bias, x_lo, x_hi)
        parts = parts_needed(weight, bias, x_lo, x_hi, bounds)
        if parts == 0:
            bias = bias.float()
        multiplier = conv_multiplier(px.scale, op.weight_scale, py.scale)
        prepare = prepare_requantization16 if py.bits == 16 else prepare_requantization
        req = TensorRequantization(prepare(multiplier, bounds.cpu().numpy()), self.device)
        lo, hi, zero = op.lo - py.zero_point, op.hi - py.zero_point, py.zero_point + 128
        int8 = self.backend == "int8"
        if int8 and (parts <= 1 or op.groups == 1):
            geometry = (px.zero_point + 128, op.stride, op.padding, op.dilation, op.groups)
            packed = onednn.packed_conv(weight, bias, *geometry, parts)
            if py.bits == 16:
                return lambda x: requantize_(packed(x[0]), req, lo, hi)
            return lambda x: requantize_to_codes(packed(x[0]), req, lo, hi, zero)
        weight = weight.contiguous(memory_format=torch.channels_last)

        def run(x: list[Tensor]) -> Tensor:
            centred = x[0].float() - (px.zero_point + 128) if int8 else x[0]
            acc = convolve(centred, weight, bias, op.stride, op.padding, op.dilation, op.groups, parts)
            if int8 and py.bits == 8:
                return requantize_to_codes(acc, req, lo, hi, zero)
            return requantize_(acc, req, lo, hi)

        return run
