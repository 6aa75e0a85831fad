"""Losses in MMDetection's vocabulary."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from hatdet.models.mmdet.losses.accuracy import accuracy
from hatdet.models.mmdet.losses.pisa import carl_loss, isr_p
from hatdet.utils.errors import RegistryError
from tests.helpers import components


def _value(result: Any) -> Any:
    return list(result) if isinstance(result, tuple) else result


def _total(result: Any) -> Tensor:
    terms = result.values() if isinstance(result, dict) else result if isinstance(result, list) else [result]
    return torch.stack([torch.as_tensor(term).sum() for term in terms]).sum()


NAMES = components.names("losses")
PRIME = [name for name in NAMES if name == "isr_p_agnostic"] or NAMES
LOSSES = [name for name in NAMES if name != "isr_p_agnostic"]


@pytest.mark.parametrize("name", LOSSES)
def test_values_gradients_and_state_are_the_references(name: str) -> None:
    reference, case = components.reference(), components.case("losses", name)
    inputs = {key: value for key, value in case["inputs"].items() if key not in ("calls", "grads")}
    for call, options in case["inputs"]["calls"].items():
        loss, want = components.made(case["args"], case["type"]), case["outputs"][call]
        given: dict[str, Any] = {
            key: tuple(v) if isinstance(v, list) and key == "target" else v for key, v in inputs.items()
        }
        leaves = {key: given[key].clone().requires_grad_() for key in case["inputs"]["grads"]}
        value = _value(loss(*{**given, **leaves}.values(), **options))
        assert reference.same(value, want["value"], 1e-5), (call, value, want["value"])
        _total(value).backward()
        for key, leaf in leaves.items():
            assert reference.same(leaf.grad, want["grads"][key], 1e-5), (call, key)
        for key, kept in want.get("state_after", {}).items():
            assert reference.same(loss.state_dict()[key], kept, 1e-6), (call, key)


class _Result:
    def __init__(self, objects: Tensor) -> None:
        self.pos_assigned_gt_inds = objects


@pytest.mark.parametrize("name", PRIME)
def test_prime_samples_are_the_references(name: str) -> None:
    case = components.case("losses", name)
    given, args = case["inputs"], dict(case["args"])
    coder = components.made({"target_stds": args.pop("target_stds")}, "DeltaXYWHBBoxCoder")
    targets = tuple(given[key] for key in ("labels", "label_weights", "bbox_targets", "bbox_weights"))
    loss = components.made({}, "CrossEntropyLoss")
    results = [_Result(given["pos_assigned_gt_inds"])]
    got = isr_p(given["cls_score"], given["bbox_pred"], targets, given["priors"], results, loss, coder, **args)
    for value, key in zip(got, ("labels", "label_weights", "bbox_targets", "bbox_weights")):
        assert components.reference().same(value, case["outputs"][key], 1e-5), key
    assert torch.equal(given["label_weights"], targets[1])


def test_ranks_of_two_objects_of_two_pictures() -> None:
    # One class; picture 0 has objects 0 (two positives) and 1, picture 1 object 0: the best of each comes first.
    boxes = torch.tensor([[0.0, 0, 10, 10]] * 4)
    pred = torch.tensor([[0.0, 0, 10, 10], [0, 0, 9, 10], [0, 0, 8, 10], [0, 0, 7, 10]])  # IoU 1, 0.9, 0.8, 0.7

    class Same:
        @staticmethod
        def decode(boxes: Tensor, deltas: Tensor) -> Tensor:
            return deltas

    results = [_Result(torch.tensor([0, 0, 1])), _Result(torch.tensor([0]))]
    targets = (torch.zeros(4, dtype=torch.long), torch.ones(4), boxes, torch.ones(4, 4))
    loss = components.made({}, "CrossEntropyLoss")
    weights = isr_p(torch.zeros(4, 3), pred, targets, boxes, results, loss, Same(), k=1, num_class=2)[1]
    # places 0, 3, 1, 2 of 4: 1, 1/4, 3/4, 2/4, and scaled to a mean of 1
    assert torch.allclose(weights, torch.tensor([1, 0.25, 0.75, 0.5]) / 0.625)


def test_boxes_whose_class_is_sure_count_more() -> None:
    scores, labels = torch.tensor([[0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]), torch.tensor([1, 0, 2])
    scores[0, 1] = torch.tensor(3.0).log()  # sigmoid 0.75; the other positive 0.5
    pred, target = torch.tensor([[1.0] * 4, [2.0] * 4, [9.0] * 4]), torch.zeros(3, 4)
    loss = components.made({}, "L1Loss")
    got = carl_loss(scores, labels, pred, target, loss, bias=0.0, avg_factor=2.0, sigmoid=True, num_class=2)
    # weights 0.75 and 0.5, scaled to 1.2 and 0.8: (4 * 1.2 + 8 * 0.8) / 2
    assert got["loss_carl"].tolist() == pytest.approx([5.6])
    nothing = carl_loss(scores, torch.full((3,), 2), pred, target, loss, num_class=2)
    assert nothing["loss_carl"].tolist() == [0.0]


BOXES = ["IoULoss", "GIoULoss", "DIoULoss", "CIoULoss", "EIoULoss", "SIoULoss"]


@pytest.mark.parametrize("kind", [*BOXES, "BoundedIoULoss"])
def test_equal_boxes_cost_nothing(kind: str) -> None:
    pred = torch.tensor([[1.0, 2, 9, 6], [0, 0, 3, 5]], requires_grad=True)
    loss = components.made({}, kind)(pred, pred.detach().clone())
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-4)
    assert pred.grad is not None and pred.grad.isfinite().all()


@pytest.mark.parametrize(("kind", "value"), [
    ("IoULoss", 1.0986123), ("GIoULoss", 2 / 3), ("DIoULoss", 2 / 3 + 1 / 13), ("CIoULoss", 2 / 3 + 1 / 13),
])  # fmt: skip
def test_half_a_square_aside(kind: str, value: float) -> None:
    # Two 2 x 2 boxes, one unit apart: IoU 2 / 6, enclosing 3 x 2 = the union, centres 1 apart, diagonal^2 13
    pred, target = torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[1.0, 0, 3, 2]])
    assert components.made({}, kind)(pred, target).item() == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize("kind", BOXES)
def test_nothing_positive_costs_nothing_whatever_the_boxes(kind: str) -> None:
    loss = components.made({}, kind)
    pred = torch.tensor([[5.0, 5, 1, 1]], requires_grad=True)
    assert loss(pred, torch.zeros(1, 4), torch.zeros(1), avg_factor=0.0).item() == 0
    empty = loss(pred[:0], torch.zeros(0, 4), torch.zeros(0), avg_factor=1.0)
    empty.backward()
    assert empty.item() == 0
    assert loss(pred, torch.zeros(1, 4), torch.zeros(1), reduction_override="none").shape == (1,)


@pytest.mark.parametrize("kind", ["L1Loss", "SmoothL1Loss", "BalancedL1Loss", "MSELoss"])
def test_no_rows_cost_nothing(kind: str) -> None:
    pred = torch.zeros(0, 4, requires_grad=True)
    loss = components.made({}, kind)(pred, torch.zeros(0, 4), torch.zeros(0, 4))
    loss.backward()
    assert loss.item() == 0


def test_balanced_l1_is_continuous_where_its_parts_meet() -> None:
    loss = components.made({"beta": 1.0}, "BalancedL1Loss")
    near, far = (loss(torch.tensor([d]), torch.zeros(1)).item() for d in (1 - 1e-6, 1 + 1e-6))
    assert near == pytest.approx(far, abs=1e-5)


def test_ignored_labels_leave_the_mean() -> None:
    logits, labels = torch.zeros(4, 2), torch.tensor([0, 1, 255, 255])
    half = components.made({"ignore_index": 255}, "CrossEntropyLoss")(logits, labels)
    whole = components.made({"ignore_index": 255, "avg_non_ignore": True}, "CrossEntropyLoss")(logits, labels)
    assert (half.item(), whole.item()) == pytest.approx((0.34657359, 0.69314718))
    sigmoid = components.made({"use_sigmoid": True, "avg_non_ignore": True}, "CrossEntropyLoss")
    assert sigmoid(logits, torch.tensor([0, 2, -1, -1])).item() == pytest.approx(0.69314718)


def test_class_weights() -> None:
    loss = components.made({"class_weight": [1.0, 3.0]}, "CrossEntropyLoss")
    assert loss(torch.zeros(2, 2), torch.tensor([0, 1]), reduction_override="none").tolist() == pytest.approx(
        [0.69314718, 2.0794415]
    )


def test_quality_of_each_class_is_label_and_quality() -> None:
    pred = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    labels, quality = torch.tensor([0, 2, 3, 1, -1]), torch.tensor([0.5, 0.9, 0.3, 1.0, 0.4])
    dense = torch.tensor([[0.5, 0, 0], [0, 0, 0.9], [0, 0, 0], [0, 1.0, 0], [0, 0, 0]])
    loss, activated = components.made({}, "QualityFocalLoss"), components.made({"activated": True}, "QualityFocalLoss")
    values = [loss(pred, (labels, quality)), loss(pred, dense), activated(pred.sigmoid(), (labels, quality))]
    values.append(activated(pred.sigmoid(), dense))
    assert [v.item() for v in values] == pytest.approx([values[0].item()] * 4, rel=1e-5)


@pytest.mark.parametrize("beta", [1.0, 1.5, 2.0])
def test_the_gradient_of_quality_focal_loss(beta: float) -> None:
    generator = torch.Generator().manual_seed(1)
    pred = torch.randn(3, 4, dtype=torch.float64, generator=generator).requires_grad_()
    target = torch.rand(3, 4, dtype=torch.float64, generator=generator)
    loss = components.made({"beta": beta}, "QualityFocalLoss")
    assert torch.autograd.gradcheck(lambda p: loss(p, target), (pred,))


def test_heat_map_with_keypoints_given() -> None:
    # The one keypoint stands in pixel 1; the heat map nowhere reaches 1.
    pred, target = torch.tensor([[0.5, 0.5], [0.5, 0.5]]), torch.zeros(2, 2)
    loss = components.made({"reduction": "sum", "pos_weight": 2.0}, "GaussianFocalLoss")
    got = loss(pred, target, pos_inds=torch.tensor([1]), pos_labels=torch.tensor([0]))
    assert got.item() == pytest.approx((2 + 4) * 0.25 * 0.69314718)


def test_masks() -> None:
    logits, target = torch.zeros(2, 2, 2), torch.tensor([[[1.0, 1], [0, 0]]] * 2)
    # p = 1/2: 2 * 1 / (4 / 4 + 2 + 0.002); naive: (2 + 0.001) / (2 + 2 + 0.001)
    assert components.made({}, "DiceLoss")(logits, target).item() == pytest.approx(1 - 2 / 3.002, rel=1e-5)
    naive = components.made({"naive_dice": True}, "DiceLoss")
    assert naive(logits, target).item() == pytest.approx(1 - 2.001 / 4.001, rel=1e-5)


def test_rare_classes_lose_less_to_negatives() -> None:
    loss = components.made({"num_classes": 2}, "EQLV2Loss")
    logits, labels = torch.zeros(2, 3, requires_grad=True), torch.tensor([0, 2])
    assert loss(logits, labels).item() == pytest.approx(3 * 0.69314718)  # at first: plain sigmoids
    assert loss.pos_grad.tolist() == [0.5, 0] and loss.neg_grad.tolist() == [0.5, 1.0]
    # ratios 1 and 0: negatives count sigmoid(12 * 0.2) and sigmoid(-12 * 0.8)
    low, high = torch.sigmoid(torch.tensor([-9.6, 2.4])).tolist()
    total = (1 + 4 * (1 - high)) + low + 1 + high + low + 1
    assert loss(logits, labels).item() == pytest.approx(total * 0.69314718 / 2, rel=1e-5)


def test_triplets() -> None:
    rows = torch.tensor([[0.0], [1.0], [3.0]], requires_grad=True)
    loss = components.made({"margin": 1.0}, "TripletLoss")
    value = loss(rows, torch.tensor([0, 0, 1]))  # 1 - 3 + 1, 1 - 2 + 1, 0 - 2 + 1
    assert value.item() == pytest.approx(0, abs=1e-6)
    assert loss(rows, torch.tensor([0, 1, 0])).item() == pytest.approx((3 - 1 + 1 + 0 + 3 - 2 + 1) / 3, abs=1e-5)
    assert loss(rows, torch.tensor([0, 0, 0])).item() == 0


def test_several_positives_of_a_row() -> None:
    pred = torch.tensor([[1.0, 2.0, 0.0], [1.0, 2.0, 0.0]], requires_grad=True)
    loss = components.made({}, "MultiPosCrossEntropyLoss")
    value = loss(pred, torch.tensor([[1, 1, 0], [0, 0, 0]]), reduction_override="none")
    e = 2.718281828
    assert value.tolist() == pytest.approx([torch.tensor(1 + 1 / e + 1 / e**2).log().item(), 0.0], abs=1e-6)
    value.sum().backward()
    assert pred.grad is not None and pred.grad.isfinite().all() and not pred.grad[1].any()


@pytest.mark.parametrize("kind", ["L2Loss", "MarginL2Loss"])
def test_the_worst_negatives(kind: str) -> None:
    pred, target = torch.tensor([[0.9, 0.5, 0.2, 0.4]]), torch.tensor([[1, 0, 0, 0]])
    loss = components.made({"neg_pos_ub": 1, "hard_mining": True, "neg_margin": 0.1}, kind)
    assert loss(pred, target).item() == pytest.approx((0.01 + 0.16) / 2)
    some = components.made({"neg_pos_ub": 2}, kind)(pred, target, reduction_override="none")
    assert int((some > 0).sum()) == 3
    assert components.made({}, kind)(pred, target, torch.tensor([[1, 0, 1, 0]])).item() == pytest.approx(0.05 / 2)


def test_percent_right() -> None:
    scores, labels = torch.tensor([[0.9, 0.1, 0.0], [0.2, 0.5, 0.3]]), torch.tensor([0, 2])
    assert accuracy(scores, labels).tolist() == [50.0]
    assert [float(v) for v in accuracy(scores, labels, (1, 2))] == [50.0, 100.0]
    assert accuracy(scores, labels, thresh=0.95).tolist() == [0.0]
    assert float(accuracy(scores[:0], labels[:0])) == 0.0
    with pytest.raises(ValueError, match="at most the number of classes"):
        accuracy(scores, labels, 4)


def test_scores_of_losses_that_say_what_theirs_are() -> None:
    seesaw = components.made({"num_classes": 2}, "SeesawLoss")
    assert seesaw.get_activation(torch.zeros(1, 4)).tolist() == [[0.25, 0.25, 0.5]]
    assert set(seesaw(torch.zeros(1, 4), torch.tensor([2]))) == {"loss_cls_objectness", "loss_cls_classes"}
    softmax = components.made({"num_classes": 1}, "CrossEntropyCustomLoss")
    assert softmax.get_activation(torch.zeros(1, 2)).tolist() == [[0.5, 0.5]] and softmax.get_cls_channels(1) == 2
    sigmoid = components.made({"num_classes": 2, "use_sigmoid": True}, "CrossEntropyCustomLoss")
    assert sigmoid.get_activation(torch.zeros(1, 2)).tolist() == [[0.5, 0.5, 0.0]]
    focal = components.made({"num_classes": 2}, "FocalCustomLoss")
    assert focal.get_accuracy(torch.tensor([[1.0, 2.0]]), torch.tensor([1]))["acc_classes"].tolist() == [100.0]
    equal = components.made({"num_classes": 1}, "EQLV2Loss")
    assert equal.get_activation(torch.zeros(1, 2)).tolist() == [[0.25, 0.5]]


@pytest.mark.parametrize(("kind", "args", "message"), [
    ("L1Loss", {"reduction": "avg"}, "reduction is 'none', 'mean' or 'sum'"),
    ("CrossEntropyLoss", {"use_sigmoid": True, "use_mask": True}, "choose one"),
    ("FocalLoss", {"use_sigmoid": False}, "set use_sigmoid=True"),
    ("IoULoss", {"mode": "cubic"}, "mode is 'linear', 'square' or 'log'"),
    ("GHMC", {"momentum": 1.0}, "momentum from 0 to below 1"),
    ("KnowledgeDistillationKLDivLoss", {"T": 0.5}, "at least 1"),
])  # fmt: skip
def test_what_a_loss_may_not_be(kind: str, args: dict[str, Any], message: str) -> None:
    with pytest.raises(RegistryError, match=message):
        components.made(args, kind)


def test_a_sum_has_no_divisor() -> None:
    with pytest.raises(ValueError, match="avg_factor divides a mean"):
        components.made({"reduction": "sum"}, "L1Loss")(torch.ones(1), torch.zeros(1), avg_factor=2.0)
