"""Random graphs of all operators: the executor's backends, the literal integers, LiteRT and TFLite Micro agree."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hatdet.integer.executor import IntExecutor
from hatdet.integer.operators.table import OP_TYPES
from tests.helpers.compare import assert_all_equal
from tests.helpers.int_graphs import random_codes, random_network
from tests.helpers.literal_transposed import accumulators as _  # noqa: F401  (its formula)

SEEDS = range(40)
NOT_DRAWN = {"float", "function", "leaky_relu", "prelu"}
"""tests/unit/quantization/test_fuzz.py has them."""


@pytest.mark.parametrize("seed", SEEDS)
def test_random_network(seed: int) -> None:
    graph = random_network(seed)
    shape = graph.tensors["x"].shape
    codes = random_codes((2, *shape), seed)
    codes[1] = np.where(codes[1] > 0, 127, -128)
    assert_all_equal(graph, codes)


def test_random_networks_hold_every_operator_with_many_codes() -> None:
    graphs = [random_network(seed) for seed in SEEDS]
    kinds = {op.kind for graph in graphs for op in graph.ops}
    assert set(OP_TYPES) - kinds == NOT_DRAWN
    levels = []
    for seed, graph in zip(SEEDS, graphs):
        codes = torch.from_numpy(random_codes((2, *graph.tensors["x"].shape), seed))
        values = IntExecutor(graph)(codes, keep=True)
        levels += [len(v.unique()) / min(256, v.numel()) for v in values.values()]
    assert np.median(levels) > 0.25 and len(levels) > 500


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("seed", range(20))
def test_random_network_on_a_gpu(seed: int) -> None:
    graph = random_network(seed)
    codes = torch.from_numpy(random_codes((2, *graph.tensors["x"].shape), seed))
    here, there = IntExecutor(graph)(codes, keep=True), IntExecutor(graph, "cuda")(codes, keep=True)
    assert all(torch.equal(here[name], there[name].cpu()) for name in graph.tensors)
