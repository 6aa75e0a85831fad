"""Graphs in which some operators stay in float: what a quantized network is compared with, layer by layer.

Between an integer operator and a float one a value is dequantized or quantized with the tensor's own scale and zero
point; between two float operators it stays real. Such a mixture is for finding out where accuracy is lost: nothing
that ships has it, and its float part depends on the machine as any float network does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hatdet.integer import onednn
from hatdet.integer.executor import IntExecutor
from hatdet.integer.graph import FloatOp, IntGraph, IntOp, QuantParams
from hatdet.integer.kernels import max_pool

RealFunction = Callable[[list[Tensor], Tensor | None, Tensor | None], Tensor]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda x: x,
    "relu": F.relu,
    "relu6": F.relu6,
    "hardsigmoid": F.hardsigmoid,
    "hardswish": F.hardswish,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
}


def real_function(function: str, arguments: Mapping[str, Any]) -> RealFunction:
    """The real operator that an integer one approximates, as a function of (inputs, weight, bias).

    Args:
        function: its kind, as in ``IntOp.kind``.
        arguments: conv: stride, padding, dilation, groups, activation; pools: kernel, stride (max_pool: padding);
            pad: padding (top, bottom, left, right); resizes: factor; activation: function; add, clamp: activation.

    Raises:
        KeyError: an operator that cannot be kept in float.
    """
    a = dict(arguments)
    if function == "conv":
        act = ACTIVATIONS[a["activation"]]
        return lambda x, w, b: act(F.conv2d(x[0], w, b, a["stride"], a["padding"], a["dilation"], a["groups"]))  # type: ignore[arg-type]
    if function == "activation":
        act = ACTIVATIONS[a["function"]]
        return lambda x, w, b: act(x[0])
    simple: dict[str, RealFunction] = {
        "add": lambda x, w, b: ACTIVATIONS[a.get("activation", "none")](x[0] + x[1]),
        "mul": lambda x, w, b: x[0] * x[1],
        "concat": lambda x, w, b: torch.cat(x, 1),
        "max_pool": lambda x, w, b: max_pool(x[0], a["kernel"], a["stride"], a["padding"]),
        "resize_nearest": lambda x, w, b: F.interpolate(x[0], scale_factor=float(a["factor"]), mode="nearest"),
        "global_average_pool": lambda x, w, b: x[0].mean((2, 3), keepdim=True),
        "requantize": lambda x, w, b: x[0],
        "clamp": lambda x, w, b: ACTIVATIONS[a["activation"]](x[0]),
        "pad": lambda x, w, b: F.pad(x[0], (a["padding"][2], a["padding"][3], a["padding"][0], a["padding"][1])),
        "average_pool": lambda x, w, b: F.avg_pool2d(x[0], a["kernel"], a["stride"]),
        "resize_bilinear": lambda x, w, b: F.interpolate(x[0], scale_factor=float(a["factor"]), mode="bilinear"),
    }
    return simple[function]


def float_kernel(op: FloatOp, device: torch.device) -> Callable[[list[Tensor]], Tensor]:
    """A float operator as a function of its real inputs (B, C, H, W)."""
    function = real_function(op.function, op.arguments)
    weight, bias = (None if v is None else torch.from_numpy(v).to(device) for v in (op.weight, op.bias))
    if weight is not None:
        weight = weight.contiguous(memory_format=torch.channels_last)
    return lambda x: function(x, weight, bias)


def quantize_real(x: Tensor, params: QuantParams) -> Tensor:
    """Real values to centred codes: clamp(round(x / S) + Z, -128, 127) - Z, as float32; NaN becomes 0."""
    codes = torch.round(x / params.scale).nan_to_num_(0.0)
    return codes.clamp_(-128 - params.zero_point, 127 - params.zero_point)


class IslandExecutor(IntExecutor):
    """Runs a graph with float islands; on one without any it computes what :class:`IntExecutor` does."""

    def _kernel(self, op: IntOp) -> Callable[[list[Tensor]], Tensor]:
        return float_kernel(op, self.device) if isinstance(op, FloatOp) else super()._kernel(op)

    def run_real(self, images: Tensor) -> tuple[Tensor, ...]:
        """Normalized images (B, C, H, W) -> the outputs as real values; those of islands are not quantized."""
        values = self.run_real_values(images)
        return tuple(values[name] for name in self.graph.outputs)

    @torch.no_grad()
    def run_real_values(self, images: Tensor) -> dict[str, Tensor]:
        """Normalized images (B, C, H, W) -> every tensor as real values."""
        carried, real = self._mixed(quantize_real(images, self.graph.qparams(self.graph.inputs[0])))
        return {name: real[name] if name in real else self._to_real(carried[name], name) for name in self.graph.tensors}

    @torch.no_grad()
    def _run(self, centred: Tensor, keep: bool) -> dict[str, Tensor]:
        carried, real = self._mixed(centred)
        for name, value in real.items():
            carried.setdefault(name, self._from_real(value, name))
        return {name: self._to_centred(value, name) for name, value in carried.items()}

    def _mixed(self, centred: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """(carried codes, real values) of what was needed as such."""
        first = self.graph.inputs[0]
        start = centred.contiguous(memory_format=torch.channels_last)
        carried = {first: self._carry(start, first)}
        real: dict[str, Tensor] = {}
        for op, kernel in self._steps:
            if isinstance(op, FloatOp):
                inputs = [real[n] if n in real else self._to_real(carried[n], n) for n in op.inputs]
                real[op.output] = kernel(inputs)
                continue
            for name in op.inputs:
                if name not in carried:
                    carried[name] = self._from_real(real[name], name)
            carried[op.output] = kernel([carried[name] for name in op.inputs])
        return carried, real

    def _carry(self, centred: Tensor, name: str) -> Tensor:
        return onednn.to_uint8(centred + (self._zero(name) + 128)) if self.backend == "int8" else centred

    def _to_centred(self, carried: Tensor, name: str) -> Tensor:
        return carried.float() - (self._zero(name) + 128) if self.backend == "int8" else carried

    def _to_real(self, carried: Tensor, name: str) -> Tensor:
        return self._to_centred(carried, name) * self.graph.qparams(name).scale

    def _from_real(self, real: Tensor, name: str) -> Tensor:
        centred = quantize_real(real, self.graph.qparams(name)).contiguous(memory_format=torch.channels_last)
        return self._carry(centred, name)


def executor_for(graph: IntGraph, device: torch.device | str = "cpu") -> IntExecutor:
    """What runs ``graph``: the integer executor, unless there are islands in it."""
    return IslandExecutor(graph, device) if graph.islands else IntExecutor(graph, device)
