"""Scales of weights of four bits: by least squares, and learned."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from hatdet.quantization.qat.fake_quant import WeightFakeQuantize
from hatdet.quantization.qat.learned_steps import (
    QuantizeLearned,
    least_squares_scale,
    passes,
    scale_of,
    step_gradient,
    step_of,
)


def error(weight: Tensor, scale: Tensor, limit: int) -> Tensor:
    codes = torch.round(weight / scale[:, None]).clamp(-limit, limit)
    return (codes * scale[:, None] - weight).square().sum(1)


def test_least_squares_scale_of_known_numbers() -> None:
    exact = torch.tensor([[3.0, -7, 0, 2], [0.5, 0.25, -1.75, 1.5]])  # steps of 1 and 0.25
    assert least_squares_scale(exact, 7).tolist() == pytest.approx([1.0, 0.25])
    assert error(exact, least_squares_scale(exact, 7), 7).max() < 1e-10
    assert least_squares_scale(torch.zeros(1, 5), 7).tolist() == [0.0]
    outlier = torch.cat([torch.linspace(-1, 1, 999), torch.tensor([4.0])])[None]
    assert float(least_squares_scale(outlier, 7)) < 0.6 * 4 / 7, "the outlier is clipped"


def test_least_squares_scale_is_the_best_of_a_fine_grid() -> None:
    weight = torch.randn(6, 45, generator=torch.Generator().manual_seed(0))
    found = error(weight, least_squares_scale(weight.view(6, 5, 3, 3), 7), 7)
    peak = weight.abs().amax(1) / 7
    grid = torch.stack([error(weight, peak * share, 7) for share in torch.linspace(0.3, 1.0, 701).tolist()])
    assert (found <= 1.03 * grid.amin(0)).all() and (found < 0.9 * error(weight, peak, 7)).any()


def test_gradients_are_those_of_the_paper() -> None:
    """Q = 7, s = 0.5: w / s = 0.6, -2.2, 9, -7: q - w / s is 0.4 and 0.2, beyond the limit 7, at it -7. R = 2."""
    weight = torch.tensor([[0.3, -1.1, 4.5, -3.5]], requires_grad=True)
    step, held = torch.tensor([0.5 * 2], requires_grad=True), torch.tensor([False])
    quantized = QuantizeLearned.apply(weight, step, scale_of(step, 7), held, 7)
    assert quantized.flatten().tolist() == pytest.approx([0.5, -1.0, 3.5, -3.5])
    quantized.backward(torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
    assert weight.grad is not None and weight.grad.tolist() == [[1.0, 2.0, 0.0, 4.0]]
    of_scale = (1 * 0.4 + 2 * 0.2 + 3 * 7 - 4 * 7) / math.sqrt(4 * 7)
    assert step.grad is not None and float(step.grad) == pytest.approx(of_scale / 2, rel=1e-4)


@pytest.mark.parametrize("limit", [7, 127])
def test_learning_begins_with_the_very_scales(limit: int) -> None:
    scale = torch.rand(1000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(scale_of(step_of(scale, limit), limit), scale)
    assert 0.7 < float(step_of(scale, limit)[0] / scale[0]) / math.sqrt(limit) < 1.42


def test_the_step_of_a_held_scale_stays_and_a_negative_one_turns() -> None:
    """Slopes of 0.25 and -0.5, added up, over the root of N * Q, over R."""
    weight, codes = torch.tensor([[0.3, 1.0], [0.3, 1.0]]), torch.tensor([[1.0, 2.0], [1.0, 2.0]])
    scale, held = torch.tensor([0.4, 0.4]), torch.tensor([False, True])
    once = step_gradient(torch.ones(2, 2), weight, codes, scale, step_of(scale, 7), held, 7)
    assert once.tolist() == pytest.approx([-0.25 / math.sqrt(14) / 2, 0.0])
    turned = step_gradient(torch.ones(2, 2), weight, codes, scale, -step_of(scale, 7), held, 7)
    assert torch.equal(turned, -once) and torch.equal(scale_of(-step_of(scale, 7), 7), scale)
    assert passes(weight, torch.tensor([0.1, 0.2]), 7).tolist() == [[True, False], [True, True]]


def test_a_quantizer_learns_and_forgets() -> None:
    quantizer = WeightFakeQuantize()
    quantizer.allocate(2, torch.device("cpu"))
    quantizer.set_bits(4)
    weight, bias = torch.tensor([[3.0, -7.0], [0.0, 0.0]]), torch.tensor([0.0, 2.0**10])
    quantizer.observe(weight, bias)
    assert quantizer.bits == 4 and quantizer.scale.tolist() == [1.0, 2.0**-4], "|b| * 2**-14"
    assert not list(quantizer.parameters())
    quantizer.learn()
    assert quantizer.step is not None and [n for n, _ in quantizer.named_parameters()] == ["step"]
    with torch.no_grad():
        quantizer.step *= 2
    quantizer.enable_observer(False)  # ranges are frozen, learned scales go on
    quantizer.observe(weight, bias)
    assert quantizer.scale.tolist() == pytest.approx([2.0, 0.125])
    assert quantizer.held.tolist() == [False, False]
    assert quantizer.codes(weight).tolist() == [[2.0, -4.0], [0.0, 0.0]]
    quantizer.forget()
    quantizer.enable_observer(True)
    quantizer.set_bits(8)
    quantizer.observe(weight, None)
    assert quantizer.bits == 8 and float(quantizer.scale[0]) == pytest.approx(7 / 127)
