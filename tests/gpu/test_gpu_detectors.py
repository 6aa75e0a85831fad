"""MMDetection's detectors on a GPU: training steps, boxes, and the same integers as on a CPU."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hatdet.integer.executor import IntExecutor
from hatdet.models.mmdet.layers.csp.drop_path import DropPath
from hatdet.quantization.converters import Float2Calibration, FuseBN
from tests.helpers.dense_roads import REFUSED, ROADS, SIZES, build
from tests.integration.test_dense_road import batch, check_step

AT_THE_EDGE = ("DDOD as it is",)
"""Whose assigner cuts at a threshold that one unit in the last place of a power decides here."""


@pytest.fixture(autouse=True)
def _exact_float32() -> Iterator[None]:
    """Without TF32, whose products have ten bits."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


def losses(model: nn.Module, data: dict[str, Any], seed: int) -> dict[str, float]:
    """Of a training step without dropped paths, its gradients checked; the model keeps its statistics."""
    model = copy.deepcopy(model).train()
    for module in model.modules():
        if isinstance(module, DropPath):
            module.eval()
    torch.manual_seed(seed)
    found = model(data)
    total = torch.stack([loss for name, loss in found.items() if "loss" in name]).sum()
    total.backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients and all(bool(g.isfinite().all()) for g in gradients)
    return {name: float(loss.detach()) for name, loss in found.items()}


def there(data: dict[str, Any]) -> dict[str, Any]:
    return {key: value.cuda() if isinstance(value, Tensor) else value for key, value in data.items()}


@pytest.mark.parametrize("name", [*ROADS, *REFUSED])
def test_a_step_and_boxes(name: str) -> None:
    """Losses are the CPU's where nothing is drawn by chance; the detector finds the CPU's boxes."""
    model, data = build(name), batch(SIZES.get(name, (64, 96)))
    model.eval()
    expected, other = (losses(model, data, seed) for seed in (0, 1))
    with torch.no_grad():
        boxes = model.eval()(data)
    model = model.cuda()
    found = losses(model, there(data), 0)
    assert found.keys() == expected.keys()
    assert all(torch.tensor(value).isfinite() for value in found.values())
    if expected == other and name not in AT_THE_EDGE:
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-4)
    with torch.no_grad():
        on_gpu = model.eval()(there(data))
    for a, b in zip(boxes, on_gpu, strict=True):
        assert b["boxes"].is_cuda and a.keys() == b.keys()
        assert torch.allclose(a["scores"][:5], b["scores"][:5].cpu(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ROADS)
def test_integers_are_those_of_the_cpu(name: str) -> None:
    """The simulation, the executor and the boxes; and a step of training in integers."""
    model, size = build(name), SIZES.get(name, (64, 96))
    data = batch(size)
    q: Any = Float2Calibration()(FuseBN()(model.eval()))
    with torch.no_grad():
        q.eval()(data)
    q.set_quantizing(True)
    q.set_observing(False)
    g = copy.deepcopy(q).cuda()
    graph = q.eval().int_graph(size)
    with torch.no_grad():
        expected = q.run_network(q.preprocess(data["img"]))
        simulated = g.eval().run_network(g.preprocess(data["img"].cuda()))
        shipped = IntExecutor(graph, "cuda").run_real(g.preprocess(data["img"].cuda()))
        boxes, on_gpu = q.evaluation_model()(data), g.evaluation_model()(there(data))
    for output, a, b, c in zip(graph.outputs, expected, simulated, shipped, strict=True):
        assert torch.equal(a, b.cpu()) and torch.equal(a, c.cpu()), output
    for a, b in zip(boxes, on_gpu, strict=True):
        assert all(torch.equal(a[key], b[key].cpu()) for key in a), name
    check_step(g, there(data))
    assert all(bool(p.grad.isfinite().all()) for p in g.parameters() if p.grad is not None)
