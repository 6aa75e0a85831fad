"""Graphs in which some operators stay in float: what a quantized network is compared with, layer by layer.

Between an integer operator and a float one a value is dequantized or quantized with the tensor's own scale and zero
point; between two float operators it stays real. Such a mixture is for finding out where accuracy is lost: nothing
that ships has it, and its float part depends on the machine as any float network does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from hatdet.integer.executor import IntExecutor
from hatdet.integer.graph import IntGraph
from hatdet.integer.operators.base import Kernel, Operator
from hatdet.integer.operators.island import FloatOp
from hatdet.integer.operators.table import OP_TYPES
from hatdet.integer.tensors import QuantParams

State = tuple[dict[str, Tensor], dict[str, Tensor]]
"""Tensors as the codes that the executor carries, and those that are real; a tensor may be in both."""
RealKernel = Callable[[list[Tensor]], Tensor]

def float_kernel(op: FloatOp, device: torch.device) -> RealKernel:
    """A float operator as a function of its real inputs (B, C, H, W)."""
    function = OP_TYPES[op.function].real(op.arguments)
    weight, bias = (None if v is None else torch.from_numpy(v).to(device) for v in (op.weight, op.bias))
    if weight is not None:
        weight = weight.contiguous(memory_format=torch.channels_last)
    return lambda x: function(x, weight, bias)


def quantize_real(x: Tensor, params: QuantParams) -> Tensor:
    """Real values to centred codes: clamp(round(x / S) + Z, lowest, highest) - Z, as float32; NaN becomes 0."""
    codes = torch.round(x / params.scale).nan_to_num_(0.0)
    return codes.clamp_(params.lowest - params.zero_point, params.highest - params.zero_point)


class IslandExecutor(IntExecutor):
    """Runs a graph with float islands; on one without any it computes what :class:`IntExecutor` does."""

    def _kernel(self, op: Operator) -> Callable[[list[Tensor]], Tensor]:
        return float_kernel(op, self.device) if isinstance(op, FloatOp) else super()._kernel(op)

    def run_real(self, images: Tensor) -> tuple[Tensor, ...]:
        """Normalized images (B, C, H, W) -> the outputs as real values; those of islands are not quantized."""
        state = self.begin(images)
        return tuple(self._real_of(name, *state) for name in self.graph.outputs)

    @torch.no_grad()
    def run_real_values(self, images: Tensor) -> dict[str, Tensor]:
        """Normalized images (B, C, H, W) -> every tensor as real values."""
        state = self.begin(images)
        return {name: self._real_of(name, *state) for name in self.graph.tensors}

    @torch.no_grad()
    def begin(self, images: Tensor) -> State:
        """Run on normalized images; the state can be :meth:`replay`-ed with another value of one tensor."""
        return self._mixed(self._from_real(images, self.graph.inputs[0]))

    @torch.no_grad()
    def replay(self, state: State, changed: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """The outputs as real values, after real values took the place of some tensors; runs only what depends on them.

        Args:
            state: what :meth:`begin` returned; it stays as it is.
            changed: tensor -> real values, which stay unrounded where a float operator or the output reads them.
        """
        carried = {name: value for name, value in state[0].items() if name not in changed}
        real = {**state[1], **changed}
        dirty = set(changed)
        for op, kernel in self._steps:
            if op.output not in changed and dirty.intersection(op.inputs):
                dirty.add(op.output)
                carried.pop(op.output, None)
                self._step(op, kernel, carried, real)
        return tuple(self._real_of(name, carried, real) for name in self.graph.outputs)

    @torch.no_grad()
    def _run(self, start: Tensor, keep: bool) -> dict[str, Tensor]:
        carried, real = self._mixed(start)
        for name, value in real.items():
            carried.setdefault(name, self._from_real(value, name))
        return carried

    def _mixed(self, start: Tensor) -> State:
        carried = {self.graph.inputs[0]: start}
        real: dict[str, Tensor] = {}
        for op, kernel in self._steps:
            self._step(op, kernel, carried, real)
        return carried, real

    def _step(self, op: Operator, kernel: Kernel, carried: dict[str, Tensor], real: dict[str, Tensor]) -> None:
        if isinstance(op, FloatOp):
            real[op.output] = kernel([self._real_of(n, carried, real) for n in op.inputs])
            return
        for name in op.inputs:
            if name not in carried:
                carried[name] = self._from_real(real[name], name)
        carried[op.output] = kernel([carried[name] for name in op.inputs])

    def _real_of(self, name: str, carried: dict[str, Tensor], real: dict[str, Tensor]) -> Tensor:
        return real[name] if name in real else self._to_real(carried[name], name)

    def real_inputs(self, state: State, op: Operator) -> list[Tensor]:
        """The real values of an operator's inputs."""
        return [self._real_of(name, *state) for name in op.inputs]

    def _to_real(self, carried: Tensor, name: str) -> Tensor:
        return self._to_centred(carried, name) * self.graph.qparams(name).scale

    def _from_real(self, real: Tensor, name: str) -> Tensor:
        centred = quantize_real(real, self.graph.qparams(name)).contiguous(memory_format=torch.channels_last)
        return self._carry(centred, name)


def executor_for(graph: IntGraph, device: torch.device | str = "cpu") -> IntExecutor:
    """What runs ``graph``: the integer executor, unless there are islands in it."""
    return IslandExecutor(graph, device) if graph.islands else IntExecutor(graph, device)


class LayerKernels:
    """The operators of a graph one by one, from real values to real values.

    Args:
        graph: may have islands.
        device: where to run.
    """

    def __init__(self, graph: IntGraph, device: torch.device | str = "cpu") -> None:
        self.graph = graph
        self.executor = IslandExecutor(graph, device)
        exact = IslandExecutor(graph, device, backend="float32")
        self.ops: dict[str, Operator] = {op.output: op for op in graph.ops}
        self._kernels = {op.output: kernel for op, kernel in exact._steps}

    @torch.no_grad()
    def run(self, op: Operator, inputs: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """One operator: its real output, and its inputs as it saw them (rounded to their codes, unless it is float)."""
        kernel = self._kernels[op.output]
        if isinstance(op, FloatOp):
            return kernel(inputs), inputs
        params = [self.graph.qparams(name) for name in op.inputs]
        codes = [
            quantize_real(x, p).contiguous(memory_format=torch.channels_last)
            for x, p in zip(inputs, params, strict=True)
        ]
        seen = [c * p.scale for c, p in zip(codes, params, strict=True)]
        return kernel(codes) * self.graph.qparams(op.output).scale, seen
