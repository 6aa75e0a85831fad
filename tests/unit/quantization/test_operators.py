"""Residual ReLUs, bilinear upsampling, mixed concatenations, padding, pooling and shared heads, end to end."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from quantization_toy import ToyDetector, batch
from torch import Tensor, nn

from hatdet.export.runtimes.parity import check_parity
from hatdet.export.tflite.int8 import write
from hatdet.integer.executor import IntExecutor
from hatdet.integer.graph import IntGraph
from hatdet.integer.operators.pointwise.activation_codes import UNIT_INTERVAL
from hatdet.integer.operators.windows.conv import ConvOp
from hatdet.quantization.detector import QuantizedDetector, quantize_detector
from hatdet.quantization.fuse import fuse_bn
from hatdet.quantization.lowering import assert_same_scales


class VargUnit(nn.Module):
    """3x3 group convolution with 8 channels a group, ReLU, 1x1 convolution."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, 2 * inputs, 3, stride, 1, groups=inputs // 8)
        self.bn, self.relu = nn.BatchNorm2d(2 * inputs), nn.ReLU(inplace=True)
        self.point, self.bn2 = nn.Conv2d(2 * inputs, outputs, 1), nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn2(self.point(self.relu(self.bn(self.conv(x)))))


class VargBlock(nn.Module):
    """Two units, a merge branch and a projected shortcut where the stride is 2; ReLUs after the additions."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.a, self.b = VargUnit(inputs, outputs, stride), VargUnit(outputs, outputs)
        self.merge = VargUnit(inputs, outputs, stride) if stride == 2 else None
        self.short = VargUnit(inputs, outputs, stride) if stride == 2 else None
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        if self.merge is not None:
            y = y + self.merge(x)
        y = self.b(self.relu(y))
        y += x if self.short is None else self.short(x)
        return self.relu(y)


class VargNetwork(nn.Module):
    """RetinaNet in miniature: group convolutions, bilinear top-down path, one head for all levels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.bn = nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16)
        self.low, self.high = VargBlock(16, 16, 1), VargBlock(16, 24, 2)
        self.lateral = nn.ModuleList([nn.Conv2d(16, 16, 1), nn.Conv2d(24, 16, 1)])
        self.output = nn.ModuleList([nn.Conv2d(16, 16, 1), nn.Conv2d(16, 16, 1)])
        self.extra = nn.Conv2d(16, 16, 3, 2, 1)
        self.head = nn.Sequential(
            nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()
        )
        self.cls, self.reg = nn.Conv2d(16, 5, 3, padding=1), nn.Conv2d(16, 4, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        c2 = self.low(self.bn(self.stem(x)))
        c3 = self.high(c2)
        p3 = self.lateral[1](c3)
        p2 = self.lateral[0](c2) + F.interpolate(p3, scale_factor=2, mode="bilinear", align_corners=False)
        p2, p3 = self.output[0](p2), self.output[1](p3)
        levels = [self.head(p) for p in (p2, p3, F.relu(self.extra(p3)))]
        return tuple(self.cls(p) for p in levels) + tuple(self.reg(p) for p in levels)


class MixedNetwork(nn.Module):
    """What stands alone: ReLU after a concatenation, hardsigmoid after pooling, sigmoid and input in concatenations."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.gate = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 4, 1)
        self.pool, self.pad = nn.AvgPool2d(3, 1, 1), nn.ZeroPad2d((1, 0, 2, 1))
        self.average, self.up = nn.AvgPool2d(2), nn.Upsample(scale_factor=2, mode="bilinear")
        self.mix, self.act = nn.Conv2d(31, 12, 3, padding=0), nn.ReLU6(inplace=True)
        self.cls, self.reg = nn.Conv2d(24, 5, 1), nn.Conv2d(12, 4, 3, 2, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        y = self.stem(x)
        gate = self.gate(y).sigmoid()
        joined = torch.cat([self.pool(y), F.relu(y), gate, F.hardsigmoid(self.pool(y)), self.average(x)], 1)
        mixed = self.act(self.mix(self.pad(joined)))
        low = torch.clamp(torch.cat([mixed, mixed + mixed], 1), 0, 6)
        again = self.up(self.average(low))
        return self.cls(again), self.reg(torch.relu(mixed))


class Detector(ToyDetector):
    def __init__(self, network: nn.Module, outputs: int) -> None:
        super().__init__()
        self.net = network  # type: ignore[assignment]
        self.output_names = tuple(f"out_{i}" for i in range(outputs))  # type: ignore[assignment]

    def loss(self, maps: tuple[Tensor, ...], batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"loss": torch.stack([(m - 0.5).square().mean() for m in maps]).sum()}


NETWORKS: dict[str, tuple[Callable[[], nn.Module], int, tuple[int, int]]] = {
    "varg": (VargNetwork, 6, (40, 24)),
    "mixed": (MixedNetwork, 2, (36, 28)),
}


def quantized(name: str, observer: str = "moving_average") -> QuantizedDetector:
    make, outputs, size = NETWORKS[name]
    torch.manual_seed(0)
    model = Detector(make(), outputs)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2.0)
            nn.init.normal_(module.bias)
        elif isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=1.2 / module.weight[0].numel() ** 0.5)
    model.train()
    with torch.no_grad():
        for i in range(10):
            model(batch(i, 2, *size))
    model.eval()
    fuse_bn(model)
    q = quantize_detector(model, observer=observer, averaging_constant=0.01, qat_forward="integer")
    q.set_observing(True)
    q.set_quantizing(True)
    return q


def train(q: QuantizedDetector, steps: int, size: tuple[int, int]) -> list[float]:
    optimizer = torch.optim.SGD(q.parameters(), 2e-4, momentum=0.9)
    losses = []
    q.train()
    for i in range(steps):
        loss = q(batch(i % 4, 2, *size))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def input_codes(q: QuantizedDetector, graph: IntGraph, images: Tensor) -> Tensor:
    p = graph.qparams(graph.inputs[0])
    return (torch.round(q.preprocess(images) / p.scale) + p.zero_point).clamp(-128, 127).to(torch.int8)


@pytest.mark.parametrize("name", NETWORKS)
def test_qat_forward_executor_and_runtimes_are_equal(name: str) -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    size = NETWORKS[name][2]
    q = quantized(name)
    start = copy.deepcopy(q.state_dict())
    losses = train(q, 16, size)
    assert sum(losses[-4:]) < sum(losses[:4])
    weights = [k for k in start if k.endswith("weight")]
    assert all(not torch.equal(start[k], q.state_dict()[k]) for k in weights), "every convolution learned"
    q.eval()
    images = q.preprocess(batch(99, 3, *size)["img"])
    with torch.no_grad():
        simulated = q.run_network(images)
    graph = q.int_graph(size)
    assert_same_scales(q.quantized, graph)
    for backend in ("auto", "float32"):
        shipped = IntExecutor(graph, backend=backend).run_real(images)
        assert all(torch.equal(a, b) for a, b in zip(simulated, shipped, strict=True))
    assert min(m.unique().numel() for m in simulated) > 40
    report = check_parity(graph, write(graph), input_codes(q, graph, batch(99, 3, *size)["img"]), intermediates=True)
    assert report.ok and len(report.tensors) == len(graph.ops), report.text()


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_are_those_of_fake_quantization(name: str) -> None:
    q, size = quantized(name), NETWORKS[name][2]
    train(q, 3, size)
    q.set_observing(False)
    grads: dict[str, dict[str, Tensor]] = {}
    for mode in ("integer", "fake_quant"):
        q.quantized.qat_forward = mode
        q.zero_grad()
        q(batch(1, 4, *size))["loss"].backward()
        grads[mode] = {n: p.grad.clone() for n, p in q.named_parameters() if p.grad is not None}
    assert grads["integer"].keys() == grads["fake_quant"].keys() and len(grads["integer"]) >= 10
    for key, a in grads["integer"].items():
        b = grads["fake_quant"][key]
        assert float(torch.cosine_similarity(a.flatten(), b.flatten(), 0)) > 0.95, key
        assert 0.85 < float(a.norm() / b.norm()) < 1.15, key


def test_kinds_of_the_lowered_graphs() -> None:
    """Additions take their ReLU in; what cannot share a scale is requantized; nothing else is."""
    q = quantized("varg")
    train(q, 1, (40, 24))
    ops = q.int_graph((40, 24)).ops
    assert [op.activation for op in ops if op.kind == "add"] == ["relu", "relu", "relu", "none"]
    assert {op.kind for op in ops} == {"conv", "add", "resize_bilinear"}
    q = quantized("mixed")
    train(q, 1, (36, 28))
    graph = q.int_graph((36, 28))
    kinds = [op.kind for op in graph.ops]
    assert kinds.count("requantize") == 3  # sigmoid, hardsigmoid, the pooled input
    assert kinds.count("clamp") == 3 and kinds.count("pad") == 3 and kinds.count("average_pool") == 4
    functions = [getattr(op, "function", "") for op in graph.ops]
    assert functions.count("sigmoid") == functions.count("hardsigmoid") == 1
    fixed = [op.output for op in graph.ops if getattr(op, "function", "") in ("sigmoid", "hardsigmoid")]
    assert all(graph.qparams(name) == UNIT_INTERVAL for name in fixed)


def test_a_module_called_on_three_levels_is_one_weight() -> None:
    """One array in the graph (also after a round trip), one buffer in the file, a name for each call."""
    q = quantized("varg")
    assert len(list(q.parameters())) == len({id(p) for p in q.parameters()}) == 2 * (1 + 2 * 6 + 4 + 1 + 4)
    train(q, 2, (40, 24))
    graph = q.int_graph((40, 24))
    names = [op.name for op in graph.ops]
    assert len(set(names)) == len(names) and {"head.0", "head.0@1", "head.0@2", "cls", "cls@1", "cls@2"} <= set(names)
    file = io.BytesIO()
    torch.save(graph.to_state(), file)
    size = file.tell()
    file.seek(0)
    again = IntGraph.from_state(torch.load(file, weights_only=True))
    for g in (graph, again):
        head = [op for op in g.ops if isinstance(op, ConvOp) and op.name.split("@")[0] == "head.0"]
        assert len({id(op.weight) for op in head}) == len({id(op.weight_scale) for op in head}) == 1
        assert len({g.qparams(op.input) for op in head}) == 3
    convs = [op for op in graph.ops if isinstance(op, ConvOp)]
    once = {id(op.weight): op.weight.nbytes for op in convs}
    assert graph.weight_bytes == sum(once.values()) + sum(op.bias.nbytes for op in convs)
    assert size < graph.weight_bytes + 60_000
    data = write(graph)
    weight = next(op.weight for op in convs if op.name == "head.0@1")
    assert data.count(weight.transpose(0, 2, 3, 1).tobytes()) == 1
    assert torch.equal(
        q.state_dict()["quantized.trunk.head.0.weight"], q.state_dict()["quantized.trunk.head.0@2.weight"]
    )
    state = q.state_dict()
    other = quantized("varg")
    other.load_state_dict(state)
    assert other.quantized.convolutions()[-1].weight is next(
        s.module.weight
        for s in other.quantized.plan.steps
        if s.name == "reg"  # type: ignore[union-attr]
    )
