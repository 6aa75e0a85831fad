"""Random networks from torch to the runtimes: nothing is refused, nothing differs.

``--fuzz N`` tries N networks more.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from hatdet.integer.executor import IntExecutor
from hatdet.integer.graph import IntGraph
from hatdet.integer.operators.table import OP_TYPES
from hatdet.quantization.detector import quantize_detector
from hatdet.quantization.fuse import fuse_bn
from hatdet.quantization.qat.fx_adapter import unsupported_operators
from hatdet.utils.errors import UserError
from tests.helpers.compare import exact_onnx_tensors, runtime_tensors
from tests.helpers.fuzz import SIZE, random_module
from tests.helpers.spellings import Task

FAST, SLOW = 6, 300


def seeds(config: pytest.Config) -> range:
    return range(FAST + SLOW, FAST + SLOW + int(config.getoption("--fuzz")))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        more = [*range(FAST, FAST + SLOW), *seeds(metafunc.config)]
        metafunc.parametrize("seed", [*range(FAST), *(pytest.param(n, marks=pytest.mark.slow) for n in more)])


@contextlib.contextmanager
def extremes() -> Iterator[None]:
    """Two things that are refused by name, and that random numbers sometimes make: outputs that are what is left of
    nearly equal numbers, of which the guard cannot tell that folding kept them, and sums beyond int32 into an output
    of [0, 1]."""
    try:
        yield
    except UserError as error:
        if not any(text in str(error) for text in ("changes what the network computes", "beyond int32")):
            raise
        pytest.skip(str(error))


def integers(seed: int) -> tuple[IntGraph, torch.Tensor, tuple[torch.Tensor, ...], torch.Tensor]:
    """The graph of a random network after calibration, images, the simulation's outputs for them, and their codes."""
    network = random_module(seed)
    assert unsupported_operators(copy.deepcopy(network)) == []
    model = Task(network, len(network.outputs)).eval()
    with extremes():
        fuse_bn(model)
        q = quantize_detector(model, observer="min_max", averaging_constant=0.01, qat_forward="integer").eval()
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(2, 3, *SIZE, generator=generator) * 4 - 2
    q.set_observing(True)
    with extremes():
        q.run_network(x)
    q.set_observing(False)
    q.set_quantizing(True)
    graph = q.int_graph(SIZE)
    p = graph.qparams(graph.inputs[0])
    images = torch.cat([x, torch.where(x > 0, 9.0, -9.0)])
    codes = (torch.round(images / p.scale) + p.zero_point).clamp(-128, 127).to(torch.int8)
    return graph, images, q.run_network(images), codes


def test_random_network(seed: int) -> None:
    graph, images, simulated, codes = integers(seed)
    executor, floats = IntExecutor(graph), IntExecutor(graph, backend="float32")
    assert all(torch.equal(a, b) for a, b in zip(simulated, executor.run_real(images), strict=True))
    expected = executor(codes, keep=True)
    other = floats(codes, keep=True)
    assert all(torch.equal(expected[name], other[name]) for name in graph.tensors)
    with extremes():
        found = {**runtime_tensors(graph, codes.numpy()), "exact ONNX": exact_onnx_tensors(graph, codes.numpy())}
    for who, tensors in found.items():
        for name, value in tensors.items():
            differing = int((value != expected[name].numpy()).sum())
            assert differing == 0, f"seed {seed}, {who}: {differing} of {value.size} values of {name} differ"


@pytest.mark.slow
def test_the_random_networks_have_every_operator() -> None:
    graphs = []
    for seed in range(FAST + 60):
        with contextlib.suppress(pytest.skip.Exception):
            graphs.append(integers(seed)[0])
    assert len(graphs) > FAST + 55
    assert {op.kind for graph in graphs for op in graph.ops} == set(OP_TYPES) - {"float"}
    assert np.median([len(graph.ops) for graph in graphs]) > 12
