"""Small networks with unusual turns, from tracing to the runtimes: same codes everywhere."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from quantization_toy import ToyDetector
from torch import Tensor, nn

from hatdet.export.runtimes.parity import check_parity
from hatdet.export.tflite.int8 import write
from hatdet.integer.executor import IntExecutor
from hatdet.quantization.detector import quantize_detector
from hatdet.quantization.fuse import fuse_bn
from hatdet.quantization.qat.fx_adapter import unsupported_operators


class Net(nn.Module):
    def __init__(self, function: Callable[[Net, Tensor], tuple[Tensor, ...]]) -> None:
        super().__init__()
        self.conv, self.square, self.bn = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.relu, self.up = nn.ReLU(), nn.Upsample(scale_factor=4, mode="bilinear")
        self.function = function

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return self.function(self, x)


def repeated(net: Net, x: Tensor) -> tuple[Tensor, ...]:
    for _ in range(3):
        x = net.relu(net.bn(net.square(x)))
    return (x,)


def sigmoids(net: Net, x: Tensor) -> tuple[Tensor, ...]:
    y = net.conv(x)
    gate = torch.sigmoid(y.mean((2, 3), keepdim=True))
    return F.hardswish(torch.sigmoid(y)), torch.sigmoid(y) * y, y * gate


def outputs_inside(net: Net, x: Tensor) -> tuple[Tensor, ...]:
    y = net.conv(x)
    z = F.relu(y)
    return y, z, F.relu(y + z)


def resampled(net: Net, x: Tensor) -> tuple[Tensor, ...]:
    y = net.conv(x)
    return net.up(F.pad(y, (1, 0, 0, 1))), F.avg_pool2d(y, 3, 2, 1), y * y, torch.cat([y, y], 1)


NETWORKS: dict[str, Callable[[Net, Tensor], tuple[Tensor, ...]]] = {
    "convolution and batch norm called three times": repeated,
    "functions of sigmoids": sigmoids,
    "outputs that are read inside": outputs_inside,
    "resampling, squares, a tensor twice": resampled,
    "activation of the input": lambda net, x: (net.conv(F.silu(x)),),
    "ReLU of the input": lambda net, x: (F.relu(x), net.conv(x)),
    "input in a concatenation": lambda net, x: (torch.cat([x, F.relu(net.conv(x))], 1), F.max_pool2d(x, 2)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_same_codes_everywhere(name: str) -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    torch.manual_seed(0)
    model = ToyDetector()
    network = Net(NETWORKS[name]).eval()
    x = torch.rand(2, 3, 33, 27)
    model.net, model.output_names = network, tuple(f"out_{i}" for i in range(len(network(x))))  # type: ignore[assignment]
    assert unsupported_operators(network) == []
    fuse_bn(model.eval())
    q = quantize_detector(model, observer="min_max", averaging_constant=0.01, qat_forward="integer")
    q.set_observing(True)
    q.set_quantizing(True)
    q.train()
    for _ in range(2):
        q.run_network(x)
    graph = q.eval().int_graph((33, 27))
    simulated, shipped = q.run_network(x), IntExecutor(graph).run_real(x)
    assert all(torch.equal(a, b) for a, b in zip(simulated, shipped, strict=True))
    p = graph.qparams(graph.inputs[0])
    codes = (torch.round(x / p.scale) + p.zero_point).clamp(-128, 127).to(torch.int8)
    report = check_parity(graph, write(graph), codes, intermediates=True, default_kernels=False)
    assert report.ok and len(report.tensors) == len(graph.ops), report.text()
