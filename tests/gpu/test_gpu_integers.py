"""The integer model on a GPU gives the codes that it gives on the CPU, in every form in which it runs."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from hatdet.building import Builder
from hatdet.config.load import load_config
from hatdet.config.options import parse_options
from hatdet.integer.executor import IntExecutor
from hatdet.quantization.detector import QuantizedDetector, quantize_detector
from hatdet.quantization.fuse import fuse_bn

RTMDET = "configs/rtmdet/rtmdet_nano_8xb32_300e_coco_{}.py"
CONFIGS = [
    RTMDET.format("ncadc_relu6"),
    RTMDET.format("relu"),
    RTMDET.format("hardswish"),
    RTMDET.format("silu"),
    "configs/detection/retinanet/retinanet_vargnetv2_tiny_coco.py",
]


def detector(path: Path, *options: str) -> nn.Module:
    """The config's detector for 64 px and two classes, its maps spread over many levels."""
    torch.manual_seed(0)
    config = load_config(path, parse_options(["num_classes=2", "imgsz=(64,64)", *options]))
    model: nn.Module = Builder().build(config.model)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2.0)
            nn.init.normal_(module.bias, std=0.3)
    model.train()
    with torch.no_grad():
        for _ in range(20):
            model.run_network(model.preprocess(images()))  # type: ignore[operator]
    return model.eval()


def images() -> Tensor:
    return torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def quantized(model: nn.Module, device: str) -> QuantizedDetector:
    """Calibrated on the CPU, so that both devices have the same ranges; on ``device``, in integers."""
    model = copy.deepcopy(model)
    fuse_bn(model)
    q = quantize_detector(model, observer="moving_average", averaging_constant=0.05, qat_forward="integer")
    q.set_observing(True)
    with torch.no_grad():
        q.run_network(q.preprocess(images()))
    q.set_observing(False)
    q.set_quantizing(True)
    return q.eval().to(device)


@pytest.mark.parametrize("path", CONFIGS)
def test_the_simulation_and_the_executor_equal_those_of_the_cpu(path: str, repo_root: Path) -> None:
    model = detector(repo_root / path)
    here, there = quantized(model, "cpu"), quantized(model, "cuda")
    graph = here.int_graph((64, 64))
    pictures = images()
    with torch.no_grad():
        expected = here.run_network(here.preprocess(pictures))
        simulated = there.run_network(there.preprocess(pictures.cuda()))
    shipped = IntExecutor(graph, "cuda").run_real(there.preprocess(pictures.cuda()))
    assert len({tuple(m.unique().tolist()) for m in expected}) > 1
    for name, a, b, c in zip(graph.outputs, expected, simulated, shipped, strict=True):
        assert torch.equal(a, b.cpu()), name
        assert torch.equal(a, c.cpu()), name


@pytest.mark.parametrize("mean, std", [(0.0, 255.0), (127.0, 128.0), (128.0, 57.1), (104.0, 1.0)])
def test_input_codes_of_all_pixel_values(mean: float, std: float, repo_root: Path) -> None:
    model = detector(repo_root / CONFIGS[0], f"pixel_mean={mean}", f"pixel_std={std}")
    ramp = torch.arange(64 * 64, dtype=torch.uint8).reshape(1, 1, 64, 64).expand(1, 3, 64, 64)
    here, there = quantized(model, "cpu"), quantized(model, "cuda")
    scale = here.int_graph((64, 64)).qparams("images").scale
    a = torch.round(here.preprocess(ramp) / scale)
    b = torch.round(there.preprocess(ramp.cuda()) / scale)
    assert torch.equal(a, b.cpu())
    maps = [q.run_network(q.preprocess(ramp.to(d))) for q, d in ((here, "cpu"), (there, "cuda"))]
    assert all(torch.equal(x, y.cpu()) for x, y in zip(*maps, strict=True))


@pytest.mark.parametrize("path", CONFIGS[:1] + CONFIGS[-1:])
def test_boxes_of_equal_codes_are_equal(path: str, repo_root: Path) -> None:
    model = detector(repo_root / path)
    batch = {"img": images(), "orig_size": torch.tensor([[80, 100]] * 4), "img_size": torch.tensor([[64, 64]] * 4)}
    batch["scale_factor"] = torch.tensor([[0.64, 0.8]] * 4)
    batch["img_id"] = torch.arange(4)
    found = []
    for device in ("cpu", "cuda"):
        q = quantized(model, device).evaluation_model()
        with torch.no_grad():
            found.append(q({key: value.to(device) for key, value in batch.items()}))
    for a, b in zip(*found, strict=True):
        assert len(a["scores"]) > 0
        assert all(torch.equal(a[key], b[key].cpu()) for key in ("scores", "labels", "boxes"))


def test_training_steps_stay_bit_equal_to_the_lowered_graph(repo_root: Path) -> None:
    q = quantized(detector(repo_root / CONFIGS[0]), "cuda")
    q.train()
    q.set_observing(True)
    optimizer = torch.optim.SGD(q.parameters(), 1e-4)
    pictures = images().cuda()
    before = [p.detach().clone() for p in q.parameters()]
    for _ in range(3):
        loss = torch.stack([m.square().mean() for m in q.run_network(q.preprocess(pictures))]).sum()
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in q.parameters())
        nn.utils.clip_grad_norm_(q.parameters(), 35.0)
        optimizer.step()
    assert sum(not torch.equal(a, b) for a, b in zip(before, q.parameters(), strict=True)) > 0.9 * len(before)
    q.eval()
    q.set_observing(False)
    with torch.no_grad():
        simulated = q.run_network(q.preprocess(pictures))
    graph = q.int_graph((64, 64))
    for device in ("cpu", "cuda"):
        shipped = IntExecutor(graph, device).run_real(q.preprocess(pictures).to(device))
        assert all(torch.equal(a.cpu(), b.cpu()) for a, b in zip(simulated, shipped, strict=True))
