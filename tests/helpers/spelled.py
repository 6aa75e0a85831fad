"""Forwards as users write them, and what their integers have to be: for tables of spellings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from hatdet.integer.executor import IntExecutor
from hatdet.quantization.detector import QuantizedDetector, quantize_detector
from hatdet.quantization.qat.fx_adapter import resting, unsupported_operators
from hatdet.quantization.tracing.comparison import difference, run
from tests.unit.quantization.forwards import Net
from tests.unit.quantization.toy import ToyDetector

Forward = Callable[[Net, Tensor], Any]


def on(function: Callable[[Tensor], Any]) -> Forward:
    """Of the stem's maps (B, 4, H, W)."""
    return lambda net, x: function(net.stem(x))


def between(function: Callable[[Tensor], Any]) -> Forward:
    """Between two convolutions."""
    return lambda net, x: net.conv(function(net.stem(x)))


def quantized(network: nn.Module, x: Tensor) -> QuantizedDetector:
    model = ToyDetector()
    count = len(run(network, x).outputs)
    model.net, model.output_names = network, tuple(f"out_{i}" for i in range(count))  # type: ignore[assignment]
    q = quantize_detector(model.eval(), observer="min_max", averaging_constant=0.01, qat_forward="integer").eval()
    q.set_observing(True)
    q.run_network(x)
    q.set_observing(False)
    q.set_quantizing(True)
    return q


def check_forward(function: Forward, kinds: list[str]) -> None:
    """In float equal to eager; in integers a graph of these operators, which computes what the simulation does."""
    torch.manual_seed(0)
    network = Net(function).eval()
    assert unsupported_operators(network) == []
    x = torch.rand(2, 3, 96, 32) * 2 - 0.5
    q = quantized(network, x)
    graph = q.int_graph((96, 32))
    assert [op.kind for op in graph.ops] == kinds
    for size in ((96, 32), (64, 160)):  # another size than the one that was seen
        x = torch.rand(2, 3, *size) * 2 - 0.5
        expected = [value.clone() for value in run(network, x).outputs]
        with resting(q.quantized.trunk):
            found = run(q.quantized.trunk, x).outputs
        assert [difference(a, b) <= 1e-5 for a, b in zip(expected, found, strict=True)] == [True] * len(expected)
        shipped = IntExecutor(graph).run_real(x)
        assert all(torch.equal(a, b) for a, b in zip(q.run_network(x), shipped, strict=True))
