"""nn.Linear on pooled maps: a convolution of one pixel, from every way to flatten to the file."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from quantization_toy import ToyDetector
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from hatdet.export.float_graph import trace_float
from hatdet.export.runtimes.floating import FloatTFLite
from hatdet.export.runtimes.parity import check_parity
from hatdet.export.targets.check import check_model
from hatdet.export.targets.table import get_target
from hatdet.export.tflite.floating import write_float
from hatdet.export.tflite.int8 import write
from hatdet.integer.executor import IntExecutor
from hatdet.integer.operators.windows.conv import ConvOp
from hatdet.quantization.converters import Float2QAT, ModelConvertPipeline
from hatdet.quantization.detector import QuantizedDetector, quantize_detector
from hatdet.quantization.fuse import fuse_bn
from hatdet.quantization.qat.fx_adapter import resting, unsupported_operators
from hatdet.quantization.tracing.comparison import difference, run


class Net(nn.Module):
    def __init__(self, function: Callable[[Net, Tensor], Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.function = function
        self.stem, self.pool, self.flat = nn.Conv2d(3, 4, 3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        self.fc, self.back, self.plain = nn.Linear(4, 6), nn.Linear(6, 4), nn.Linear(4, 6, bias=False)
        self.bn, self.drop, self.scale = nn.BatchNorm1d(6), nn.Dropout(), nn.Parameter(torch.ones(6, 4))
        nn.init.uniform_(self.bn.running_var, 0.5, 2.0)
        nn.init.normal_(self.bn.running_mean)

    def forward(self, x: Tensor) -> Any:
        y = self.function(self, self.stem(x))
        return y if isinstance(y, tuple) else (y,)


def excite(net: Net, y: Tensor) -> Tensor:
    b, c, _, _ = y.size()
    gate = torch.sigmoid(net.back(F.relu(net.fc(net.pool(y).view(b, c))))).view(b, c, 1, 1)
    return y * gate.expand_as(y)


FLATTENED: dict[str, Callable[[Net, Tensor], Any]] = {
    "torch.flatten": lambda net, y: net.fc(torch.flatten(net.pool(y), 1)),
    "flatten by keywords": lambda net, y: net.fc(torch.flatten(net.pool(y), start_dim=1, end_dim=-1)),
    "nn.Flatten": lambda net, y: net.fc(net.flat(net.pool(y))),
    "view": lambda net, y: net.fc(net.pool(y).view(y.size(0), -1)),
    "view of fixed channels": lambda net, y: net.fc(net.pool(y).view(-1, 4)),
    "reshape": lambda net, y: net.fc(net.pool(y).reshape(y.shape[0], y.shape[1])),
    "squeeze": lambda net, y: net.fc(net.pool(y).squeeze(-1).squeeze(-1)),
    "squeeze of two": lambda net, y: net.fc(torch.squeeze(net.pool(y), (2, 3))),
    "index": lambda net, y: net.fc(net.pool(y)[:, :, 0, 0]),
    "mean": lambda net, y: net.fc(y.mean((2, 3))),
    "mean by keywords": lambda net, y: net.fc(torch.mean(y, dim=[-2, -1])),
    "mean that keeps": lambda net, y: net.fc(y.mean((2, 3), keepdim=True).flatten(1)),
    "a pool of the whole map": lambda net, y: net.fc(F.avg_pool2d(y, y.shape[2:]).flatten(1)),
    "no bias": lambda net, y: net.plain(y.mean((2, 3))),
    "dropout": lambda net, y: net.fc(net.drop(net.pool(y).flatten(1))),
    "two layers": lambda net, y: net.back(F.relu6(net.fc(y.mean((2, 3))))),
    "hardswish between": lambda net, y: net.back(F.hardswish(net.fc(y.mean((2, 3))))),
    "norm between": lambda net, y: net.back(F.relu(net.bn(net.fc(y.mean((2, 3)))))),
    "one layer twice": lambda net, y: net.fc(net.back(net.fc(y.mean((2, 3))))),
    "squeeze and excitation": excite,
    "excitation by None": lambda net, y: y * net.back(net.fc(y.mean((2, 3))))[:, :, None, None].sigmoid(),
    "excitation by unsqueeze": lambda net, y: y * F.hardsigmoid(net.back(net.fc(y.mean((2, 3))))[..., None, None]),
    "beside a map": lambda net, y: (net.fc(y.mean((2, 3))), F.relu(y)),
    "joined": lambda net, y: net.back(torch.cat([net.fc(y.mean((2, 3)))[:, 2:], net.fc(y.mean((2, 3)))[:, :2]], 1)),
    "pooled alone": lambda net, y: torch.relu(y).mean((2, 3)),
}


def image(seed: int = 0) -> Tensor:
    return torch.rand(2, 3, 64, 32, generator=torch.Generator().manual_seed(seed))


def detector(network: nn.Module) -> ToyDetector:
    model = ToyDetector()
    count = len(run(network, image()).outputs)
    model.net, model.output_names = network, tuple(f"out_{i}" for i in range(count))  # type: ignore[assignment]
    return model.eval()


def quantized(network: nn.Module) -> QuantizedDetector:
    model = detector(network)
    fuse_bn(model)
    q = quantize_detector(model, observer="min_max", averaging_constant=0.01, qat_forward="integer").eval()
    q.set_observing(True)
    q.set_quantizing(False)
    q.run_network(image())
    q.set_observing(False)
    q.set_quantizing(True)
    return q


def pixel(value: Tensor) -> Tensor:
    """(B, C) as it comes out of everything that is made of the network: (B, C, 1, 1)."""
    return value if value.dim() == 4 else value[:, :, None, None]


@pytest.mark.parametrize("name", FLATTENED)
def test_every_way_to_flatten(name: str) -> None:
    network = Net(FLATTENED[name]).eval()
    expected = [value.clone() for value in run(network, image()).outputs]
    assert unsupported_operators(network) == []
    q = quantized(network)
    with resting(q.quantized.trunk):
        found = run(q.quantized.trunk, image()).outputs
    for a, b in zip(expected, found, strict=True):
        assert b.shape == pixel(a).shape and difference(pixel(a), b) <= 1e-5
    graph = q.int_graph((64, 32))
    assert not {op.kind for op in graph.ops} & {"slice", "channel_order"} or name == "joined"
    shipped = IntExecutor(graph).run_real(image())
    assert all(torch.equal(a, b) for a, b in zip(q.run_network(image()), shipped, strict=True))
    for real, made in zip(expected, shipped, strict=True):
        assert float((pixel(real) - made).abs().max()) < 0.05 * float(real.abs().max())


def test_the_layer_is_a_convolution_of_one_pixel_with_the_same_numbers() -> None:
    network = Net(FLATTENED["one layer twice"]).eval()
    weight = network.fc.weight
    q = quantized(network)
    first, back, again = [op for op in q.int_graph((64, 32)).ops if isinstance(op, ConvOp)][1:]
    assert (first.name, back.name, again.name) == ("fc", "back", "fc@1")
    assert first.weight.shape == (6, 4, 1, 1) and first.weight is again.weight
    scale = weight.detach().abs().amax(1) / 127.0
    assert np.array_equal(first.weight[:, :, 0, 0], torch.round(weight.detach() / scale[:, None]).numpy())
    (trained,) = {id(p): p for c in q.quantized.convolutions() for p in [c.weight] if p.shape == (6, 4, 1, 1)}.values()
    assert trained.data_ptr() == weight.data_ptr()


@pytest.mark.parametrize("qat_mode", ["fuse_bn", "with_bn"])
def test_training(qat_mode: str) -> None:
    q = ModelConvertPipeline(converters=[Float2QAT()], qat_mode=qat_mode)(detector(Net(FLATTENED["norm between"])))
    assert isinstance(q, QuantizedDetector)
    before = {name: value.clone() for name, value in q.train().named_parameters()}
    optimizer = torch.optim.SGD(q.parameters(), 0.1)
    for step in range(3):
        optimizer.zero_grad()
        q.run_network(image(step))[0].square().sum().backward()
        optimizer.step()
    after = dict(q.named_parameters())
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert any(".fc.weight" in name for name in changed) and any(".back.weight" in name for name in changed)
    shipped = IntExecutor(q.eval().int_graph((64, 32))).run_real(image())
    assert torch.equal(q.folded().run_network(image())[0], shipped[0])


@pytest.mark.parametrize("name", ["two layers", "squeeze and excitation", "beside a map", "pooled alone"])
def test_files(name: str) -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    network = Net(FLATTENED[name]).eval()
    expected = run(network, image()).outputs
    floats = FloatTFLite(write_float(trace_float(detector(network), (64, 32)), "{}")).run(image())
    assert all(torch.allclose(pixel(a), b, atol=1e-5) for a, b in zip(expected, floats, strict=True))
    graph = quantized(network).int_graph((64, 32))
    p = graph.qparams(graph.inputs[0])
    codes = (torch.round(image(1) / p.scale) + p.zero_point).clamp(-128, 127).to(torch.int8)
    assert (report := check_parity(graph, write(graph), codes)).ok, report.text()
    assert check_model(detector(network), get_target("ethos-u55-128"), (64, 32)).ok


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.fc = nn.Conv2d(3, 4, 3), parametrizations.weight_norm(nn.Linear(4, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.stem(x).mean((2, 3)))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (Net(lambda net, y: y.flatten(1)), r"^flatten: .*flatten only \(B, C, 1, 1\) maps, behind AdaptiveAvgPool2d"),
        (Net(lambda net, y: net.fc(y.flatten(1)[:, :4])), r"^flatten: .*flatten only \(B, C, 1, 1\) maps"),
        (Net(lambda net, y: net.fc(y.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)), "^permute: "),
        (Net(lambda net, y: net.fc(y.mean((2, 3))[:, None, None])), r"^getitem: |^fc: Linear of something that is no"),
        (Net(lambda net, y: F.linear(y.mean((2, 3)), net.scale)), "^linear: .*; call an nn.Linear module"),
        (Net(lambda net, y: y.mean((2, 3)) @ net.scale.t()), "^matmul: .*; call an nn.Linear module"),
        (Net(lambda net, y: net.bn(net.fc(y.mean((2, 3))).relu())), "^bn: BatchNorm1d does not follow a layer of its"),
        (Normed(), "^fc: ParametrizedLinear has no integer form"),
    ],
)
def test_what_has_no_form_is_named(network: nn.Module, message: str) -> None:
    problem = str(unsupported_operators(network.eval())[0])
    assert re.search(message, problem), problem
