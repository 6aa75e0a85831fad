"""One function written in many ways: each must give the same operators, and integers that are the simulation's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hatdet.integer.executor import IntExecutor
from hatdet.integer.graph import IntGraph
from hatdet.quantization.detector import QuantizedDetector, quantize_detector
from hatdet.quantization.fuse import fuse_bn
from hatdet.quantization.qat.fx_adapter import resting, unsupported_operators
from hatdet.quantization.tracing.comparison import difference, run

Spelling = Callable[[Tensor], Any] | nn.Module


class Spelled(nn.Module):
    """A convolution of 8 channels, then ``function``: a function of its map, or a module."""

    def __init__(self, function: Spelling) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 1, 1)
        self.function = function

    def forward(self, x: Tensor) -> Any:
        made = self.function(self.stem(x))
        return (made,) if isinstance(made, Tensor) else tuple(made)


class Task(nn.Module):
    """The least that quantization asks of a detector."""

    def __init__(self, net: nn.Module, outputs: int) -> None:
        super().__init__()
        self.net, self.output_names = net, tuple(f"out_{i}" for i in range(outputs))

    def network(self) -> nn.Module:
        return self.net

    def preprocess(self, img: Tensor) -> Tensor:
        return img.float().div(255.0)

    def metadata(self) -> dict[str, Any]:
        return {"mean": 0.0, "std": 255.0}


def quantized(function: Spelling, size: tuple[int, int] = (32, 64), seed: int = 0) -> tuple[QuantizedDetector, Tensor]:
    """The network of a function after calibration on two images, and these."""
    torch.manual_seed(seed)
    network = Spelled(function).eval()
    x = torch.rand(2, 3, *size) * 4 - 2
    model = Task(network, len(run(network, x).outputs)).eval()
    fuse_bn(model)
    q = quantize_detector(model, observer="min_max", averaging_constant=0.01, qat_forward="integer").eval()
    q.set_observing(True)
    q.run_network(x)
    q.set_observing(False)
    q.set_quantizing(True)
    return q, x


def check_spelling(function: Spelling, kinds: Sequence[str], size: tuple[int, int] = (32, 64)) -> IntGraph:
    """Eager = traced, simulation = integers, and behind the convolution these kinds of operators."""
    assert unsupported_operators(Spelled(function).eval()) == []
    q, x = quantized(function, size)
    torch.manual_seed(0)
    expected = [value.clone() for value in run(Spelled(function).eval(), x).outputs]
    with resting(q.quantized.trunk):
        found = run(q.quantized.trunk, x).outputs
    assert all(difference(a, b) <= 1e-5 for a, b in zip(expected, found, strict=True))
    graph = q.int_graph(size)
    assert [op.kind for op in graph.ops[1:]] == list(kinds), [op.kind for op in graph.ops]
    shipped = IntExecutor(graph).run_real(x)
    assert all(torch.equal(a, b) for a, b in zip(q.run_network(x), shipped, strict=True))
    return graph


def refusal_of(function: Spelling) -> str:
    """What is said about a function that has no integer form, in one line."""
    problems = unsupported_operators(Spelled(function).eval())
    assert len(problems) == 1, problems
    assert "\n" not in str(problems[0])
    return str(problems[0])
