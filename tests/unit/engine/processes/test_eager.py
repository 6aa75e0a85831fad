"""Training without torch's compiler: it is not loaded for an optimizer, and is itself once something compiles."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[4]
CODE = """
import sys, torch
from torch import nn
from hatdet.building import Builder, Factory
from hatdet.engine.optimizer import build_optimizer
network = nn.Conv2d(1, 1, 1)
for kind in (torch.optim.AdamW, torch.optim.SGD):
    optimizer = build_optimizer(Factory(Builder(), {"type": kind, "lr": 0.5}), network)
    network(torch.ones(1, 1, 1, 1)).sum().backward()
    before = network.bias.item()
    optimizer.step()
    assert abs(network.bias.item() - before + 0.5) < 0.01, network.bias  # SGD: lr * 1; AdamW's first step: lr
    optimizer.zero_grad()
    assert network.bias.grad is None
    optimizer.load_state_dict(optimizer.state_dict())
import inspect
inspect.getmodule(sys._getframe())  # goes through all modules
loaded = [name for name in ("sympy", "torch._dynamo.convert_frame", "torch._inductor") if name in sys.modules]
assert not loaded, loaded

import torch._dynamo
graphs = []
def backend(graph, inputs):
    graphs.append(graph)
    return graph.forward
assert torch.compile(lambda x: x + 1, backend=backend)(torch.ones(2)).tolist() == [2.0, 2.0] and len(graphs) == 1
assert torch._dynamo is sys.modules["torch._dynamo"] and torch._dynamo.__file__
optimizer.step()
"""


def test_an_optimizer_needs_no_compiler_and_leaves_it_usable() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
