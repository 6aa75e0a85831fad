"""Layers may be called as the outputs, or as the input."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hatdet.integer.executor import IntExecutor
from hatdet.quantization.analysis.stage import StageNetwork
from hatdet.quantization.detector import quantize_detector
from hatdet.quantization.lowering import assert_same_scales
from tests.helpers.compare import assert_all_equal
from tests.helpers.spellings import Task


class Named(nn.Module):
    """Its layers are called ``images``, ``out_1`` and ``out_0``; the outputs are out_0 and out_1."""

    def __init__(self) -> None:
        super().__init__()
        self.images, self.out_1, self.out_0 = nn.Conv2d(3, 4, 3, 1, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 2, 1)
        self.last = nn.Conv2d(2, 2, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.out_1(self.images(x))
        y = self.out_0(x)
        return self.last(y), x + 1 * x


def test_layers_that_are_called_as_outputs() -> None:
    torch.manual_seed(0)
    q = quantize_detector(Task(Named(), 2).eval(), observer="min_max", averaging_constant=0.01, qat_forward="integer")
    x = torch.rand(2, 3, 8, 8)
    q.set_observing(True)
    q.eval().run_network(x)
    q.set_observing(False)
    q.set_quantizing(True)
    graph = q.int_graph((8, 8))
    assert graph.outputs == ("out_0", "out_1") and len(graph.tensors) == 6
    assert assert_same_scales(q.quantized, graph) == 10
    shipped = IntExecutor(graph).run_real(x)
    assert all(torch.equal(a, b) for a, b in zip(q.run_network(x), shipped, strict=True))
    codes = torch.randint(-128, 128, (1, 3, 8, 8), dtype=torch.int8)
    assert_all_equal(graph, codes.numpy())
    values = StageNetwork(name="integers", model=q, mode="integer", image_size=(8, 8)).values(x)
    assert torch.equal(values[q.quantized.plan.outputs[0]], shipped[0])
