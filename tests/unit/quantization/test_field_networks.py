"""Ten backbones as users write them: quantized, trained a little, lowered, exported, 0 values differing."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from hatdet.export.runtimes.parity import check_parity
from hatdet.export.tflite.int8 import write
from hatdet.integer.executor import IntExecutor
from hatdet.quantization.detector import QuantizedDetector, quantize_detector
from hatdet.quantization.fuse import fuse_bn
from hatdet.quantization.qat.fx_adapter import unsupported_operators
from tests.helpers.compare import exact_onnx_tensors
from tests.helpers.field_networks import NETWORKS
from tests.helpers.spellings import Task

SIZE = (64, 96)
KINDS = {
    "ShuffleNetV2 unit": {"slice", "concat"},
    "GhostNet unit": {"slice", "add"},
    "MobileNetV3 block with SE": {"global_average_pool", "mul", "activation"},
    "C2f with split": {"slice", "concat", "max_pool"},
    "Focus stem with SiLU": {"slice", "concat", "activation"},
    "ELAN": {"leaky_relu", "max_pool", "concat"},
    "HRNet fuse": {"resize_nearest", "resize_bilinear", "add"},
    "U-Net decoder with ConvTranspose": {"conv_transpose", "max_pool", "concat"},
    "FPN with bilinear": {"resize_bilinear", "add"},
}
"""Operators that each must have."""


def images(seed: int, count: int = 2) -> Tensor:
    return torch.rand(count, 3, *SIZE, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def network(name: str) -> nn.Module:
    """With statistics and weights as after some training."""
    torch.manual_seed(0)
    made = NETWORKS[name]()
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0.0, 0.3)
    made.train()
    for seed in range(3):
        made(images(seed, 4))
    return made.eval()


def quantized(name: str) -> QuantizedDetector:
    net = network(name)
    model = Task(net, len(net(images(0)))).eval()
    fuse_bn(model)
    q = quantize_detector(model, observer="min_max", averaging_constant=0.01, qat_forward="integer")
    q.set_observing(True)
    q.eval().run_network(images(1))
    q.set_quantizing(True)
    q.train()
    weights = [p for p in q.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(weights, 1e-3)
    before = copy.deepcopy([w.detach() for w in weights])
    for seed in range(2):
        optimizer.zero_grad()
        torch.stack([(m**2).mean() for m in q.run_network(images(seed))]).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert all(w.grad is not None for w in weights)
    assert sum(not torch.equal(a, b) for a, b in zip(before, weights, strict=True)) > len(weights) // 2
    q.set_observing(False)
    return q.eval()


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_the_field(name: str) -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    assert unsupported_operators(network(name)) == []
    q = quantized(name)
    graph = q.int_graph(SIZE)
    assert {op.kind for op in graph.ops} >= KINDS.get(name, set()), sorted({op.kind for op in graph.ops})
    x = images(9)
    executor = IntExecutor(graph)
    assert all(torch.equal(a, b) for a, b in zip(q.run_network(x), executor.run_real(x), strict=True))
    p = graph.qparams(graph.inputs[0])
    codes = (torch.round(x / p.scale) + p.zero_point).clamp(-128, 127).to(torch.int8)
    report = check_parity(graph, write(graph), codes, default_kernels=False)
    assert report.ok, report.text()
    values = executor(codes, keep=True)
    for tensor, value in exact_onnx_tensors(graph, codes.numpy()).items():
        assert torch.equal(torch.from_numpy(value), values[tensor]), tensor
    assert min(len(values[output].unique()) for output in graph.outputs) > 20, "a constant shows nothing"


def test_a_repvgg_block_is_one_convolution() -> None:
    graph = quantized("RepVGG block").int_graph(SIZE)
    assert [op.kind for op in graph.ops] == ["conv"] * 4
