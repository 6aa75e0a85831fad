"""The network that is quantized is the network that was trained, however its forward is written."""

from __future__ import annotations

import re

import pytest
import torch
from quantization_forwards import REFUSED, WORKING, Net
from quantization_toy import ToyDetector
from torch import Tensor

from hatdet.integer.executor import IntExecutor
from hatdet.quantization.comparison import difference, run
from hatdet.quantization.detector import QuantizedDetector, quantize_detector
from hatdet.quantization.fuse import fuse_bn
from hatdet.quantization.fx_adapter import prepare, resting, unsupported_operators
from hatdet.utils.errors import UserError


def quantized(network: Net, x: Tensor) -> QuantizedDetector:
    model = ToyDetector()
    count = len(run(network, x).outputs)
    model.net, model.output_names = network, tuple(f"out_{i}" for i in range(count))  # type: ignore[assignment]
    fuse_bn(model.eval())
    q = quantize_detector(model, observer="min_max", averaging_constant=0.01, qat_forward="integer").eval()
    q.set_observing(True)
    q.run_network(x)
    q.set_observing(False)
    q.set_quantizing(True)
    return q


@pytest.mark.parametrize("name", WORKING)
def test_forwards_that_are_ordinary_torch(name: str) -> None:
    """In float equal to eager; in integers a graph that computes what the simulation does."""
    torch.manual_seed(0)
    network = Net(WORKING[name]).eval()
    x = torch.rand(2, 3, 96, 32) * 2 - 0.5
    expected = [value.clone() for value in run(network, x).outputs]
    assert unsupported_operators(network) == []
    q = quantized(network, x)
    with resting(q.quantized.trunk):
        found = run(q.quantized.trunk, x).outputs
    assert [difference(a, b) <= 1e-5 for a, b in zip(expected, found, strict=True)] == [True] * len(expected)
    graph = q.int_graph((96, 32))
    shipped = IntExecutor(graph).run_real(x)
    assert all(torch.equal(a, b) for a, b in zip(q.run_network(x), shipped, strict=True))
    assert float(network.calls) == 0.0


@pytest.mark.parametrize("name", REFUSED)
def test_forwards_without_integer_form_are_named(name: str) -> None:
    function, message = REFUSED[name]
    problem = unsupported_operators(Net(function).eval())[0]
    assert re.search(message, str(problem)), str(problem)
    assert "\n" not in str(problem)
    with pytest.raises(UserError, match="has no integer form"):
        prepare(Net(function), "min_max", 0.01, torch.zeros(1, 3, 64, 64))
