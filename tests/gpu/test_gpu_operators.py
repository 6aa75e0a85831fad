"""Every operator, and networks of the field, give on a GPU the codes that they give on a CPU."""

from __future__ import annotations

import pytest
import torch

from hatdet.integer.executor import IntExecutor
from hatdet.quantization.detector import quantize_detector
from hatdet.quantization.fuse import fuse_bn
from tests.helpers.field_networks import NETWORKS
from tests.helpers.int_graphs import random_codes
from tests.helpers.spellings import Task
from tests.unit.export.test_forms import ONE, graph_of


@pytest.mark.parametrize("name", ONE)
def test_operator(name: str) -> None:
    graph = graph_of(name)
    codes = torch.from_numpy(random_codes((3, *graph.tensors["x"].shape), 1))
    here, there = IntExecutor(graph)(codes, keep=True), IntExecutor(graph, "cuda")(codes, keep=True)
    assert all(torch.equal(here[tensor], there[tensor].cpu()) for tensor in graph.tensors)


@pytest.mark.parametrize("name", NETWORKS)
def test_training_on_the_gpu_ships_what_it_simulates(name: str) -> None:
    """Two steps of QAT on the GPU; then its forward, the executor there and the executor here agree to the bit."""
    torch.manual_seed(0)
    net = NETWORKS[name]().eval()
    x = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(1)) * 2 - 1
    model = Task(net, len(net(x))).eval()
    fuse_bn(model)
    q = quantize_detector(model, observer="min_max", averaging_constant=0.01, qat_forward="integer").cuda()
    images = x.cuda()
    q.set_observing(True)
    q.eval().run_network(images)
    q.set_quantizing(True)
    optimizer = torch.optim.SGD([p for p in q.train().parameters() if p.requires_grad], 1e-3)
    for _ in range(2):
        optimizer.zero_grad()
        torch.stack([(m**2).mean() for m in q.run_network(images)]).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    q.set_observing(False)
    graph = q.eval().int_graph((64, 96))
    simulated = q.run_network(images)
    for device in ("cuda", "cpu"):
        shipped = IntExecutor(graph, device).run_real(x.to(device))
        assert all(torch.equal(a.cpu(), b.cpu()) for a, b in zip(simulated, shipped, strict=True)), device
