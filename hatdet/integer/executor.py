"""Runs an :class:`~hatdet.integer.graph.IntGraph` in torch, batched, to the last bit as the profile's kernels do.

Three backends with equal results: ``float32`` carries centred codes as floats and convolves in float32 (any device);
``int8`` carries uint8 codes through oneDNN's int8 kernels (CPUs where these prove exact), about twice as fast;
``native`` carries them through kernels in C, where a compiler made these (:mod:`hatdet.integer.native.build`).
"""

from __future__ import annotations

from typing import Literal, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hatdet.integer import onednn
from hatdet.integer.graph import IntGraph
from hatdet.integer.native import build
from hatdet.integer.native.kernels import Kernels
from hatdet.integer.operators.base import Kernel, Operator
from hatdet.integer.profile import Profile
from hatdet.integer.rounding import rounded_bytes, to_uint8
from hatdet.integer.tensors import QuantParams

BACKENDS = ("auto", "native", "int8", "float32")
_DTYPES = {8: torch.int8, 16: torch.int16}


class IntExecutor:
    """The integer network as a function of int8 codes.

    Args:
        graph: what to run; any image size that its strides allow, not only the recorded one.
        device: where to run; ``cpu`` by default.
        backend: ``auto`` takes the first of ``native``, ``int8`` and ``float32`` that is there and proves exact.

    Raises:
        ValueError: an unknown backend, or one that is not available.
    """

    def __init__(self, graph: IntGraph, device: torch.device | str = "cpu", backend: str = "auto") -> None:
        if backend not in BACKENDS:
            raise ValueError(f"unknown backend {backend!r}; use one of {', '.join(BACKENDS)}")
        self.graph = graph
        self.device = torch.device(device)
        self.native: Kernels | None = None
        self.backend = self._chosen(backend)
        self._steps = [(op, self._kernel(op)) for op in graph.ops]
        last = {name: i for i, op in enumerate(graph.ops) for name in op.inputs}
        keep = set(graph.outputs)
        self._free: list[list[str]] = [[] for _ in graph.ops]
        for name, i in last.items():
            if name not in keep:
                self._free[i].append(name)

    def _chosen(self, backend: str) -> str:
        on_cpu = self.device.type == "cpu"
        if on_cpu and backend in ("auto", "native"):
            self.native = build.library()
        if self.native:
            return "native"
        if backend == "native":
            raise ValueError(f"the native backend is not available here: {build.describe()}; use 'auto'")
        if on_cpu and backend != "float32" and onednn.available():
            return "int8"
        if backend == "int8":
            raise ValueError("the int8 backend needs a CPU on which oneDNN's int8 convolutions are exact; use 'auto'")
        return "float32"

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
        values = self._run(self._from_codes(codes, self.graph.inputs[0]), keep)
        names = list(values) if keep else list(self.graph.outputs)
        coded = {n: self._to_codes(values[n], n) for n in names}
        return coded if keep else tuple(coded.values())

    def run_real(self, images: Tensor) -> tuple[Tensor, ...]:
        """Normalized images (B, C, H, W) -> the outputs dequantized: scale * (code - zero point), float32."""
        first = self.graph.inputs[0]
        q = self.graph.qparams(first)
        real = (images / q.scale).contiguous(memory_format=torch.channels_last)
        if self.int8:
            start = rounded_bytes(real, q.zero_point + 128)
        else:
            start = real.round_().clamp_(-128 - q.zero_point, 127 - q.zero_point)
        values = self._run(start, False)
        return tuple(self._to_centred(values[n], n) * self.graph.qparams(n).scale for n in self.graph.outputs)

    def _from_codes(self, codes: Tensor, name: str) -> Tensor:
        """int8 codes of a tensor as the backend carries them, channels_last."""
        if self.int8:
            dense = codes.contiguous(memory_format=torch.channels_last)
            return dense.view(torch.uint8).bitwise_xor(128)  # adds 128
        centred = codes.to(self.device, torch.float32) - self._zero(name)
        return centred.contiguous(memory_format=torch.channels_last)

    def _to_codes(self, carried: Tensor, name: str) -> Tensor:
        """The codes of what the backend carries: int8, or int16."""
        bits = self.graph.qparams(name).bits
        if self.int8 and bits == 8:
            return carried.bitwise_xor(128).view(torch.int8)
        return (carried + self._zero(name)).to(_DTYPES[bits])

    def _carry(self, centred: Tensor, name: str) -> Tensor:
        """Centred codes as the backend carries this tensor; one of 16 bits is float32 in both."""
        if not self.int8 or self.graph.qparams(name).bits == 16:
            return centred
        return to_uint8(centred + (self._zero(name) + 128))

    def _to_centred(self, carried: Tensor, name: str) -> Tensor:
        """Inverse of :meth:`_carry`."""
        if not self.int8 or self.graph.qparams(name).bits == 16:
            return carried
        return carried.float().sub_(self._zero(name) + 128)

    def _zero(self, name: str) -> int:
        return self.graph.qparams(name).zero_point

    @torch.no_grad()
    def _run(self, start: Tensor, keep: bool) -> dict[str, Tensor]:
        """The carried input -> the outputs, or every tensor, as they are carried."""
        values = {self.graph.inputs[0]: start}
        with torch.autocast(self.device.type, enabled=False):  # float32 holds the integers, 16 bits would not
            for (op, kernel), free in zip(self._steps, self._free, strict=True):
                values[op.output] = kernel([values[name] for name in op.inputs])
                if not keep:
                    for name in free:
                        del values[name]
        return values

    # ---- what a kernel is made for (``operators.base.Machine``)

    def _kernel(self, op: Operator) -> Kernel:
        return op.make_kernel(self)

    @property
    def profile(self) -> Profile:
        """The graph's arithmetic."""
        return self.graph.profile

    @property
    def int8(self) -> bool:
        """Whether tensors are carried as uint8."""
        return self.backend != "float32"

    def qparams(self, name: str) -> QuantParams:
        return self.graph.qparams(name)

    def offset(self, name: str) -> int:
        """The number that makes ``carried value + it`` the int8 code."""
        return -128 if self.int8 else self._zero(name)

    def table(self, codes: NDArray[np.int8], zero_point: int) -> Tensor:
        """A table of int8 results in the representation that the backend carries."""
        flat = codes.reshape(-1).astype(np.int32)
        carried = (flat + 128).astype(np.uint8) if self.int8 else (flat - zero_point).astype(np.float32)
        return torch.from_numpy(carried).to(self.device)
