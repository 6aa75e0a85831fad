"""Losses between a student and its teacher, against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from hatdet.models.teaching.losses import box_loss, class_loss, feature_loss


def scores(*values: float) -> torch.Tensor:
    return torch.tensor(values).reshape(1, -1, 1)


def test_scores_apart_are_weighted_divergences() -> None:
    """q = 0.8, p = 0.5: 0.8 ln 1.6 + 0.2 ln 0.4 = 0.192745, times 0.3; the teacher's highest scores are 0.9 in all."""
    found = class_loss(scores(0.5, 0.1), scores(0.8, 0.1))
    assert float(found) == pytest.approx(0.3 * (0.8 * math.log(1.6) + 0.2 * math.log(0.4)), rel=1e-5)


def test_scores_are_divided_by_the_teacher_s_confidence() -> None:
    one, three = class_loss(scores(0.5), scores(0.8)), class_loss(scores(0.5, 0.8, 0.9), scores(0.8, 0.8, 0.9))
    assert float(three) == pytest.approx(float(one) / 2.5, rel=1e-5)


def test_only_the_highest_class_counts_as_confidence() -> None:
    student, teacher = torch.full((1, 4, 2), 0.5), torch.tensor([0.8, 0.5]).expand(1, 4, 2)
    assert float(class_loss(student, teacher)) == pytest.approx(0.3 * 0.192745 * 4 / 3.2, rel=1e-4)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_gradient_of_scores(temperature: float) -> None:
    """``T |q - p| (p - q)`` by the student's logit, of the tempered scores."""
    logit = torch.tensor([[[0.0]]], requires_grad=True)
    class_loss(logit.sigmoid(), scores(0.8), temperature).backward()
    q = 1 / (1 + math.exp(-math.log(4) / temperature))
    assert logit.grad is not None
    assert float(logit.grad) == pytest.approx(-temperature * (q - 0.5) ** 2, rel=1e-4)


def test_scores_of_zero_and_one_stay_finite() -> None:
    student = torch.tensor([[[0.0], [1.0]]], requires_grad=True)
    found = class_loss(student, scores(1.0, 0.0))
    found.backward()
    assert math.isfinite(found.item()) and student.grad is not None and bool(student.grad.isfinite().all())


def test_boxes_are_weighted_by_confidence() -> None:
    """2x2 in 2x4: IoU 1/2, no empty corner: GIoU 1/2. The third is below the limit, the second the same."""
    student = torch.tensor([[[0.0, 0, 2, 2], [0, 0, 1, 1], [0, 0, 1, 1]]], requires_grad=True)
    teacher = torch.tensor([[[0.0, 0, 2, 4], [0, 0, 1, 1], [5, 5, 9, 9]]])
    found = box_loss(student, teacher, torch.tensor([[0.8, 0.6, 0.04]]))
    assert found.item() == pytest.approx(0.8 * 0.5 / 1.4, rel=1e-6)
    found.backward()
    assert student.grad is not None and student.grad[0, 2].tolist() == [0, 0, 0, 0]


def test_sides_in_the_wrong_order_are_a_box_without_area() -> None:
    """(3, 3) in the middle of 0..4 x 0..2: nothing in common, the smallest box around both is 4 x 3, 8 of 12 filled."""
    student = torch.tensor([[[3.0, 3, 1, 1]]], requires_grad=True)
    found = box_loss(student, torch.tensor([[[0.0, 0, 4, 2]]]), torch.ones(1, 1))
    assert found.item() == pytest.approx(1 + 4 / 12, rel=1e-6)
    found.backward()
    assert student.grad is not None and bool(student.grad.isfinite().all())
    turned = torch.tensor([[[4.0, 2, 0, 0]]])
    assert box_loss(turned, turned, torch.ones(1, 1)).item() == 0.0, "of a teacher it is no box"


@pytest.mark.parametrize("seed", range(5))
def test_boxes_of_any_numbers_have_a_loss_from_0_to_2(seed: int) -> None:
    torch.manual_seed(seed)
    student, teacher = 100 * torch.randn(2, 1, 500, 4)
    assert 0 <= box_loss(student, teacher, torch.rand(1, 500)).item() <= 2


def test_no_confident_box_is_no_loss() -> None:
    boxes = torch.tensor([[[0.0, 0, 2, 2]]], requires_grad=True)
    found = box_loss(boxes, boxes.detach() + 1, torch.tensor([[0.01]]))
    found.backward()
    assert found.item() == 0.0 and boxes.grad is not None and boxes.grad.tolist() == [[[0, 0, 0, 0]]]


def test_features_are_compared_by_correlation() -> None:
    """One channel times 3 plus 5 (r = 1), one negated (r = -1): 1 - 0 = 1. A level of r = 1 halves it."""
    maps = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    student = torch.cat([maps, maps], dim=1)
    teacher = torch.cat([3 * maps + 5, -maps], dim=1)
    assert float(feature_loss([student], [teacher])) == pytest.approx(1.0, abs=1e-4)
    assert float(feature_loss([student, maps], [teacher, 7 * maps])) == pytest.approx(0.5, abs=1e-4)


def test_correlation_by_hand() -> None:
    """(0, 1, 2, 3) and (0, 1, 3, 2): r = 4 / 5."""
    student = torch.tensor([0.0, 1, 2, 3]).reshape(1, 1, 2, 2)
    teacher = torch.tensor([0.0, 1, 3, 2]).reshape(1, 1, 2, 2)
    assert float(feature_loss([student], [teacher])) == pytest.approx(0.2, abs=1e-5)


def test_a_constant_channel_is_finite() -> None:
    student = torch.ones(1, 1, 2, 2, requires_grad=True)
    feature_loss([student], [torch.arange(4.0).reshape(1, 1, 2, 2)]).backward()
    assert student.grad is not None and bool(student.grad.isfinite().all())
