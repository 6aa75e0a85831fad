"""A network with limits of its own, trained: its integers ship, in both forms of training it learns."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hatdet.integer.executor import IntExecutor
from tests.helpers.spellings import quantized


class Limited(nn.Module):
    """Limits behind a convolution, behind an addition and alone."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 1)
        self.act = nn.Hardtanh(-0.5, 0.75)

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.first(x))
        z = F.hardtanh(y + self.second(y), -0.4, 0.8)
        return F.max_pool2d(z, 2).clamp(max=0.5)


@pytest.mark.parametrize("forward", ["integer", "fake_quant"])
def test_training_gives_the_integers_that_ship(forward: str) -> None:
    q, x = quantized(Limited())
    network = q.quantized
    network.qat_forward = forward
    q.set_observing(True)
    q.train()
    optimizer = torch.optim.SGD(q.parameters(), 0.1)
    losses = []
    for _ in range(8):
        (y,) = q.run_network(x)
        loss = (y - 0.4).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0], losses
    q.eval()
    graph = q.int_graph((32, 64))
    assert [getattr(op, "activation", "") for op in graph.ops] == [
        "none", "clamp(-0.5,0.75)", "none", "clamp(-0.4,0.8)", "", "clamp(-inf,0.5)",
    ]  # fmt: skip
    (shipped,) = IntExecutor(graph).run_real(x)
    (found,) = q.run_network(x)
    if forward == "integer":
        assert torch.equal(found, shipped) and len(shipped.unique()) > 20
    else:
        step = graph.qparams(graph.outputs[0]).scale
        assert (found - shipped).abs().max() <= 2.01 * step
