"""RTMDet-nano with channel attention, from its config to the proven file, and with each activation that has one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from hatdet.building import Builder
from hatdet.config.load import load_config
from hatdet.config.options import parse_options
from hatdet.export.runtimes.parity import check_parity
from hatdet.export.tflite.int8 import write
from hatdet.integer.executor import IntExecutor
from hatdet.integer.graph import IntGraph
from hatdet.quantization.detector import QuantizedDetector, quantize_detector
from hatdet.quantization.fuse import fuse_bn

CONFIG = "configs/rtmdet/rtmdet_nano_8xb32_300e_coco_relu.py"


def spread(model: nn.Module, images: Tensor) -> None:
    """Spread parameters, and normalization with the statistics of ``images``, so that tensors use many levels."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2.0)
            nn.init.normal_(module.bias)
        elif isinstance(module, nn.Conv2d) and module.bias is not None:
            nn.init.normal_(module.weight, std=0.2)
            nn.init.zeros_(module.bias)
    model.train()
    with torch.no_grad():
        for _ in range(40):
            model.run_network(model.preprocess(images))  # type: ignore[operator]
    model.eval()


def test_the_config_has_channel_attention_and_pools_of_three(repo_root: Path) -> None:
    model = Builder().build(load_config(repo_root / CONFIG, parse_options(["num_classes=2"])).model)
    kinds = [type(m) for m in model.modules()]
    assert kinds.count(nn.Hardsigmoid) == 4 and nn.ReLU in kinds and nn.ReLU6 not in kinds
    assert {m.kernel_size for m in model.modules() if isinstance(m, nn.MaxPool2d)} == {3}


def observing(activation: str, arithmetic: str, repo_root: Path, pictures: int) -> tuple[QuantizedDetector, Tensor]:
    """As QAT begins: the model in train mode with moving ranges, and pictures for it."""
    torch.manual_seed(0)
    options = ["num_classes=2", "imgsz=(64,64)", f"activation={activation}"]
    model = Builder().build(load_config(repo_root / CONFIG, parse_options(options)).model)
    images = torch.randint(0, 256, (pictures, 3, 64, 64), dtype=torch.uint8)
    spread(model, images)
    fuse_bn(model)
    settings = dict(observer="moving_average", averaging_constant=0.05, qat_forward="integer", arithmetic=arithmetic)
    q = quantize_detector(model, **settings)  # type: ignore[arg-type]
    q.set_observing(True)
    q.set_quantizing(True)
    return q.train(), images


def trained(activation: str, arithmetic: str, repo_root: Path) -> tuple[QuantizedDetector, Tensor, float]:
    """After three steps of QAT: the model in eval mode, its input images, and the share of parameters that changed."""
    q, images = observing(activation, arithmetic, repo_root, pictures=4)
    optimizer = torch.optim.SGD(q.parameters(), 1e-4)
    before = {n: p.detach().clone() for n, p in q.named_parameters()}
    for _ in range(3):
        loss = torch.stack([m.square().mean() for m in q.run_network(q.preprocess(images))]).sum()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(q.parameters(), 35.0)
        optimizer.step()
    changed = sum(not torch.equal(before[n], p) for n, p in q.named_parameters())
    return q.eval(), q.preprocess(images), changed / len(before)


def shipped(q: QuantizedDetector, real: Tensor) -> tuple[IntGraph, Tensor]:
    """The integer model, which QAT's forward equals on these images, and their codes."""
    graph = q.int_graph((64, 64))
    with torch.no_grad():
        simulated = q.run_network(real)
    assert all(torch.equal(a, b) for a, b in zip(simulated, IntExecutor(graph).run_real(real), strict=True))
    params = graph.qparams("images")
    return graph, (torch.round(real / params.scale) + params.zero_point).to(torch.int8)


@pytest.mark.parametrize("arithmetic", ["tflite_ref", "xnnpack"])
@pytest.mark.parametrize("activation", ["ReLU", "Hardswish", "SiLU"])
def test_whole_road_at_64_pixels(activation: str, arithmetic: str, repo_root: Path) -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    pytest.importorskip("tflite_micro", reason="TFLite Micro is not installed")
    q, real, changed = trained(activation, arithmetic, repo_root)
    assert changed > 0.9
    graph, codes = shipped(q, real)
    report = check_parity(graph, write(graph), codes, intermediates=True)
    assert report.ok and report.runtimes == graph.profile.runtimes, report.text()
    assert graph.metadata["profile"] == arithmetic
    assert sum(sum(t.differing.values()) for t in report.tensors) == 0 and len(report.tensors) > 100
    assert min(t.levels for t in report.tensors if t.is_output) > 20
