"""Runs an :class:`~hatdet.integer.graph.IntGraph` in torch, batched, to the last bit as the profile's kernels do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, overload

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hatdet.integer.arithmetic import add_table, conv_multiplier, prepare_requantization, requantize_table
from hatdet.integer.graph import AddOp, ConcatOp, ConvOp, IntGraph, IntOp, MaxPoolOp, RequantizeOp, ResizeNearestOp
from hatdet.integer.kernels import (
    TensorRequantization,
    accumulator_bounds,
    convolve,
    lookup,
    lookup_pairs,
    max_pool,
    parts_needed,
    requantize_,
)

Kernel = Callable[[list[Tensor]], Tensor]


class IntExecutor:
    """The integer network as a function of int8 codes.

    Args:
        graph: what to run; any image size that its strides allow, not only the recorded one.
        device: where to run; ``cpu`` by default.
    """

    def __init__(self, graph: IntGraph, device: torch.device | str = "cpu") -> None:
        self.graph = graph
        self.device = torch.device(device)
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
        """int8 codes (B, C, H, W) -> the outputs as int8 codes, or with ``keep`` every tensor by name.

        Raises:
            TypeError: ``codes`` is not int8.
        """
        if codes.dtype != torch.int8:
            raise TypeError(f"the executor takes int8 codes, got {codes.dtype}")
        zero = self.graph.qparams(self.graph.inputs[0]).zero_point
        values = self._run(codes.to(self.device, torch.float32) - zero, keep)
        names = list(values) if keep else list(self.graph.outputs)
        coded = {n: (values[n] + self.graph.qparams(n).zero_point).to(torch.int8) for n in names}
        return coded if keep else tuple(coded.values())

    def run_real(self, images: Tensor) -> tuple[Tensor, ...]:
        """Normalized images (B, C, H, W) -> the outputs dequantized: scale * (code - zero point), float32."""
        q = self.graph.qparams(self.graph.inputs[0])
        centred = torch.round(images / q.scale).clamp_(-128 - q.zero_point, 127 - q.zero_point)
        values = self._run(centred, False)
        return tuple(values[n] * self.graph.qparams(n).scale for n in self.graph.outputs)

    @torch.no_grad()
    def _run(self, centred: Tensor, keep: bool) -> dict[str, Tensor]:
        values = {self.graph.inputs[0]: centred.contiguous(memory_format=torch.channels_last)}
        for (op, kernel), free in zip(self._steps, self._free, strict=True):
            values[op.output] = kernel([values[name] for name in op.inputs])
            if not keep:
                for name in free:
                    del values[name]
        return values

    def _kernel(self, op: IntOp) -> Kernel:
        q = self.graph.qparams
        if isinstance(op, ConvOp):
            return self._conv(op)
        if isinstance(op, AddOp):
            p1, p2, py = q(op.input1), q(op.input2), q(op.output)
            table = add_table(
                (p1.scale, p2.scale, py.scale), (p1.zero_point, p2.zero_point, py.zero_point), op.lo, op.hi
            )
            pairs = self._centred(table, py.zero_point)
            return lambda x: lookup_pairs(x[0], x[1], pairs, p1.zero_point, p2.zero_point)
        if isinstance(op, ConcatOp):
            return lambda x: torch.cat(x, 1)
        if isinstance(op, MaxPoolOp):
            return lambda x: max_pool(x[0], op.kernel, op.stride, op.padding)
        if isinstance(op, ResizeNearestOp):
            return lambda x: F.interpolate(x[0], scale_factor=float(op.factor), mode="nearest")
        assert isinstance(op, RequantizeOp), op
        px, py = q(op.input), q(op.output)
        codes = self._centred(requantize_table(px.scale, px.zero_point, py.scale, py.zero_point), py.zero_point)
        return lambda x: lookup(x[0], codes, px.zero_point)

    def _centred(self, table: np.ndarray, zero: int) -> Tensor:
        return torch.from_numpy(table.reshape(-1).astype(np.float32) - zero).to(self.device)

    def _conv(self, op: ConvOp) -> Kernel:
        px, py = self.graph.qparams(op.input), self.graph.qparams(op.output)
        weight = torch.from_numpy(op.weight.astype(np.float32)).to(self.device)
        bias = torch.from_numpy(op.bias.astype(np.float64)).to(self.device)
        x_lo, x_hi = -128 - px.zero_point, 127 - px.zero_point
        bounds = accumulator_bounds(weight, bias, x_lo, x_hi)
        parts = parts_needed(weight, bias, x_lo, x_hi, bounds)
        if parts == 1:
            bias = bias.float()
        weight = weight.contiguous(memory_format=torch.channels_last)
        multiplier = conv_multiplier(px.scale, op.weight_scale, py.scale)
        req = TensorRequantization(prepare_requantization(multiplier, bounds.cpu().numpy()), self.device)
        lo, hi = op.lo - py.zero_point, op.hi - py.zero_point

        def run(x: list[Tensor]) -> Tensor:
            acc = convolve(x[0], weight, bias, op.stride, op.padding, op.dilation, op.groups, parts)
            return requantize_(acc, req, lo, hi)

        return run
