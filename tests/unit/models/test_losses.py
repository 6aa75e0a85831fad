"""Losses: by hand, against the definition, and their gradients."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from hatdet.models.losses.iou_loss import GIoULoss
from hatdet.models.losses.quality_focal_loss import QualityFocalLoss
from hatdet.models.losses.reduce import mean_over_ranks


def test_giou_by_hand() -> None:
    pred = torch.tensor([[1.0, 1, 3, 3], [0, 0, 2, 2]])
    target = torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 2]])
    # 1 - giou: 1 - 1/7 + 2/9 and 0; weighted by 0.5 and 1; twice; divided by 4
    loss = GIoULoss(loss_weight=2.0)(pred, target, torch.tensor([0.5, 1.0]), 4.0)
    assert loss.item() == pytest.approx(2 * 0.5 * (1 - 1 / 7 + 2 / 9) / 4)


def test_giou_without_boxes_is_zero_and_has_a_gradient() -> None:
    raw = torch.ones(3, 4, requires_grad=True)
    loss = GIoULoss()(raw[:0], torch.zeros(0, 4), torch.zeros(0), 1.0)
    loss.backward()
    assert loss.item() == 0 and raw.grad is not None and raw.grad.abs().sum() == 0


def test_quality_focal_by_hand() -> None:
    # Logit 0: sigmoid 0.5, entropy log 2 whatever the target; weight 0.5^2, or (0.9 - 0.5)^2 for the positive.
    logits, labels = torch.zeros(1, 2, 3), torch.tensor([[-1, 2]])
    quality = torch.tensor([[0.7, 0.9]])  # the first is background: not read
    loss = QualityFocalLoss(loss_weight=3.0)(logits, labels, quality, 2.0)
    assert loss.item() == pytest.approx(3 * (5 * math.log(2) * 0.25 + math.log(2) * 0.16) / 2)


@pytest.mark.parametrize("beta", [2.0, 1.5])
def test_quality_focal_against_the_definition(beta: float) -> None:
    torch.manual_seed(0)
    logits = (torch.randn(2, 50, 7, dtype=torch.float64) * 4).requires_grad_()
    labels = torch.where(torch.rand(2, 50) < 0.3, torch.randint(0, 7, (2, 50)), -1)
    quality = torch.rand(2, 50, dtype=torch.float64)
    target = F.one_hot(labels + 1, 8)[..., 1:] * quality[..., None]
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    expected = (entropy * (target - logits.sigmoid()).abs() ** beta).sum() / 3
    (expected_grad,) = torch.autograd.grad(expected, logits)
    loss = QualityFocalLoss(beta=beta)(logits, labels, quality, 3.0)
    (grad,) = torch.autograd.grad(loss, logits)
    assert torch.allclose(loss, expected, rtol=1e-12)
    assert torch.allclose(grad, expected_grad, rtol=1e-9, atol=1e-14)


def test_quality_focal_with_extreme_logits() -> None:
    logits = torch.tensor([[[-200.0, 200.0]]], requires_grad=True)
    loss = QualityFocalLoss()(logits, torch.tensor([[-1]]), torch.zeros(1, 1), 1.0)
    loss.backward()
    assert loss.item() == 200 and logits.grad is not None
    assert logits.grad.flatten().tolist() == [0, 1]


def test_mean_over_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    value = torch.tensor(3.0)
    assert mean_over_ranks(value) is value, "one process"
    dist = "hatdet.models.losses.reduce.dist."
    monkeypatch.setattr(dist + "is_initialized", lambda: True)
    monkeypatch.setattr(dist + "get_world_size", lambda: 2)
    monkeypatch.setattr(dist + "all_reduce", lambda total: total.add_(5.0))  # the other process has 5
    assert mean_over_ranks(value).item() == 4 and value.item() == 3
    monkeypatch.setattr(dist + "get_world_size", lambda: 1)
    assert mean_over_ranks(value) is value, "a group of one"
