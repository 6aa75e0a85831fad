"""PReLU in training: its slopes learn, and what ships is what was trained."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hatdet.export.runtimes.parity import check_parity
from hatdet.export.tflite import int8 as tflite
from hatdet.integer.executor import IntExecutor
from hatdet.integer.graph import IntGraph
from hatdet.integer.operators.pointwise.prelu import PreluOp, kernels_agree
from hatdet.quantization.operators.pointwise.prelu import Slopes
from hatdet.quantization.qat.fx_adapter import unsupported_operators
from tests.helpers.forms import run_form
from tests.helpers.int_graphs import qparams
from tests.helpers.spellings import Spelled, check_spelling, quantized, refusal_of


class Learned(nn.Module):
    """One slope for all channels, one for each, and one module that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.one, self.each = nn.Conv2d(8, 8, 3, padding=1), nn.PReLU(), nn.PReLU(8, init=0.1)
        self.twice = nn.PReLU(8)

    def forward(self, x: Tensor) -> Tensor:
        y = self.twice(self.each(self.conv(self.one(x))))
        return torch.cat([self.twice(x + y), y], 1)


def slopes(*values: float, frozen: bool = False) -> Slopes:
    module = Slopes(nn.Parameter(torch.tensor(values)))
    module.observe_weight()
    module.weight_fake_quant.enable_observer(not frozen)
    return module


def test_one_forward_and_its_gradients_by_hand() -> None:
    """Scale 1/2 in, 1/4 out; slopes 1/2 and -1/4: codes 127 and -64 of 1/254."""
    module = slopes(0.5, -0.25)
    assert module.codes().tolist() == [127, -64] and module.scale == float(np.float32(0.5 / 127))
    codes = torch.tensor([[3.0, -4.0, -100.0], [3.0, -4.0, -100.0]]).view(1, 2, 1, 3).requires_grad_()
    made = run_form("prelu", [codes], [qparams(0.5)], qparams(0.25, -20), module=module)
    assert made.flatten().tolist() == [-14, -24, -120, -14, -18, 30]
    made.sum().backward()
    assert codes.grad is not None and module.weight.grad is not None
    ratio = 64 * module.scale
    assert codes.grad.flatten().tolist() == pytest.approx([2, 1, 1, 2, -2 * ratio, -2 * ratio])
    assert module.weight.grad.tolist() == [2 * -104, 2 * -104]  # of -4 and -100 codes, 2 output codes each


def test_a_clamped_output_stops_gradients_and_a_clamped_slope_its_own() -> None:
    module = slopes(0.5)
    codes = torch.tensor([100.0, -100.0, -2.0]).view(1, 1, 1, 3).requires_grad_()
    run_form("prelu", [codes], [qparams(1.0)], qparams(0.25, 0), module=module).sum().backward()
    assert codes.grad is not None and codes.grad.flatten().tolist() == [0, 0, 2]
    assert module.weight.grad is not None and module.weight.grad.tolist() == [-8]
    frozen = slopes(0.5, frozen=True)
    with torch.no_grad():
        frozen.weight.fill_(0.6)
    assert frozen.codes().tolist() == [127]
    run_form("prelu", [codes], [qparams(1.0)], qparams(0.25, 0), module=frozen).sum().backward()
    assert frozen.weight.grad is not None and frozen.weight.grad.tolist() == [0]


def test_what_is_observed() -> None:
    ranges: list[tuple[float, float]] = []
    codes = torch.tensor([[-10.0, 20.0], [-30.0, 5.0]]).view(1, 2, 1, 2)
    run_form("prelu", [codes], [qparams(0.5)], qparams(0.25), ranges, slopes(0.5, -1.0))
    assert ranges[0] == pytest.approx((-2.5 * 64 / 63.5, 15.0), rel=1e-6)


@pytest.mark.parametrize("forward", ["integer", "fake_quant"])
def test_training_gives_the_integers_that_ship(forward: str) -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    q, x = quantized(Learned())
    q.quantized.qat_forward = forward
    q.set_observing(True)
    q.train()
    before = {name: p.detach().clone() for name, p in q.named_parameters()}
    names = {name for name in before if name.endswith(("one.weight", "each.weight", "twice.weight"))}
    assert names and not any("fake_quant" in name for name in before)
    optimizer = torch.optim.SGD(q.parameters(), 0.2)
    losses = []
    for step in range(12):
        if step == 9:
            q.set_observing(False)
        (y,) = q.run_network(x)
        loss = (y + 0.3).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0], losses
    after = dict(q.named_parameters())
    assert all((after[name] != before[name]).any() for name in names)
    q.eval()
    (found,) = q.run_network(x)
    graph = q.int_graph((32, 64))
    ops = [op for op in graph.ops if isinstance(op, PreluOp)]
    assert [len(op.alpha) for op in ops] == [1, 8, 8, 8] and np.array_equal(ops[2].alpha, ops[3].alpha)
    scales = [(graph.qparams(op.input).scale, op.alpha_scale, graph.qparams(op.output).scale) for op in ops]
    assert all(kernels_agree(*s) for s in scales)
    (shipped,) = IntExecutor(graph).run_real(x)
    if forward == "integer":
        assert torch.equal(found, shipped) and len(shipped.unique()) > 20
    else:
        assert (found - shipped).abs().max() <= 3.01 * graph.qparams(graph.outputs[0]).scale
    file = io.BytesIO()
    torch.save(graph.to_state(), file)
    file.seek(0)
    again = IntGraph.from_state(torch.load(file, weights_only=True))
    codes = torch.randint(-128, 128, (2, 3, 32, 64), dtype=torch.int8)
    assert check_parity(again, tflite.write(graph), codes).ok


SPELLINGS = {
    "module": nn.PReLU(),
    "of each channel": nn.PReLU(8, init=-0.3),
    "function": lambda x: F.prelu(x, torch.full((8,), 0.2)),
    "torch": lambda x: torch.prelu(x, weight=torch.tensor([0.3])),
    "method": lambda x: x.prelu(torch.full((8,), 0.2)),
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_spellings(name: str) -> None:
    check_spelling(SPELLINGS[name], ["prelu"])  # type: ignore[arg-type]


def test_a_learned_tensor_is_the_same_parameter() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.slope = nn.Parameter(torch.full((8,), 0.2))

        def forward(self, x: Tensor) -> Tensor:
            return F.prelu(x, self.slope)

    module = Own()
    q, _ = quantized(module)
    (found,) = (m for m in q.modules() if isinstance(m, Slopes))
    assert any(p is found.weight for p in q.task.parameters())


def test_slopes_that_are_computed_are_refused() -> None:
    found = unsupported_operators(Spelled(lambda x: F.prelu(x, x.mean((0, 2, 3)))).eval())
    assert str(found[-1]) == "prelu: prelu with slopes that are computed in each call; use a parameter, or nn.PReLU"
    module = nn.PReLU(8)
    del module.weight
    module.weight = torch.full((8,), 0.2)  # type: ignore[assignment]
    assert "PReLU whose slopes are computed in each call; remove the parametrization" in refusal_of(module)


def test_the_first_code_below_zero_has_a_slope() -> None:
    module, codes = slopes(0.5), torch.tensor([-1.0, 0.0, 1.0]).view(1, 1, 1, 3)
    run_form("prelu", [codes], [qparams(1.0)], qparams(0.25, 0), module=module).sum().backward()
    assert module.weight.grad is not None and module.weight.grad.tolist() == [-4]


def test_slopes_are_observed_in_training_and_while_they_are_real() -> None:
    x = torch.tensor([-4.0]).view(1, 1, 1, 1)
    cases = ((True, True, 1.0), (True, False, 1.0), (False, False, 1.0), (False, True, 0.5))
    for training, quantized_too, scale in cases:
        module = slopes(0.5)
        module.weight_fake_quant.enable_fake_quant(quantized_too)
        module.train(training)
        with torch.no_grad():
            module.weight.fill_(1.0)
        module(x)
        assert module.scale == pytest.approx(scale / 127)
