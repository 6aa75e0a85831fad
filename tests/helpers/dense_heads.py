"""A dense head against its reference case: maps, losses, gradients, boxes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hatdet.models.mmdet.heads.base import DenseHead, Truth
from tests.helpers.components import case, made, reference


def filled_head(name: str) -> tuple[DenseHead, dict[str, Any]]:
    """The head of a case with the reference's weights, and the case."""
    found = case("heads", name)
    return reference().fill(made(found["args"])), found


def features(found: dict[str, Any], learn: bool = False) -> list[Tensor]:
    """The feature maps of a case."""
    inputs, rnd = found["inputs"], reference().rnd
    maps = [rnd(name, *shape) for name, shape in zip(inputs["feature_names"], inputs["feature_shapes"], strict=True)]
    return [level.requires_grad_() for level in maps] if learn else maps


def truths(found: dict[str, Any]) -> list[Truth]:
    """What is to be found in the pictures of a case."""
    return [Truth(gt["bboxes"], gt["labels"]) for gt in found["inputs"]["gt"]]


def metas(found: dict[str, Any]) -> list[Any]:
    """How the pictures of a case lie."""
    return [found["inputs"]["img_meta"]] * len(found["inputs"]["gt"])


def flat(values: Any) -> list[Tensor]:
    """The tensors of nested lists, in order."""
    if isinstance(values, Tensor):
        return [values]
    return [tensor for value in values for tensor in flat(value)]


def check_maps(name: str) -> None:
    """Names and shapes of the state, maps in both modes."""
    head, found = filled_head(name)
    outputs = found["outputs"]
    state = sorted(f"{key} {tuple(value.shape)}" for key, value in head.state_dict().items())
    assert state == sorted(outputs["state"])
    _check_equal(trained_once(head, found), outputs.get("train_maps"))
    with torch.no_grad():
        _check_equal(flat(head.eval().outputs(features(found))), outputs["maps"])


def trained_once(head: DenseHead, found: dict[str, Any]) -> list[Tensor]:
    """The maps of training mode: the reference has passed them once before it was asked in eval mode, and averages of
    normalization followed."""
    with torch.no_grad():
        return flat(head.train().outputs(features(found)))


def _check_equal(got: list[Tensor], want: list[Any] | None) -> None:
    if want is not None:
        assert len(got) == len(want)
        for index, (mine, other) in enumerate(zip(got, want, strict=True)):
            assert reference().same(mine, other, 1e-4), index


def check_loss(name: str, loss: float = 1e-5, gradient: float = 1e-3) -> None:
    """Losses in training mode, and the length of their gradient in each feature map."""
    head, found = filled_head(name)
    head.train()
    maps = features(found, learn=True)
    if hasattr(head, "epoch"):
        setattr(head, "epoch", 5)  # noqa: B010
    losses = head.loss_by_feat(*head.outputs(maps), truths=truths(found), metas=metas(found))
    wanted = found["outputs"]["loss"]
    assert set(losses) == set(wanted)
    for key, value in losses.items():
        got, want = flat(value), flat(wanted[key])
        assert len(got) == len(want), key
        for level, (one, other) in enumerate(zip(got, want, strict=True)):
            mine = float(one.detach())
            assert abs(mine - float(other)) <= loss * max(abs(float(other)), 1e-6), (key, level, mine, float(other))
    torch.stack(flat(list(losses.values()))).sum().backward()  # type: ignore[no-untyped-call]
    for level, (tensor, want) in enumerate(zip(maps, found["outputs"]["grad_feat_norms"], strict=True)):
        assert tensor.grad is not None
        assert abs(float(tensor.grad.norm()) - float(want)) <= gradient * float(want), level


def check_predictions(name: str) -> None:
    """Boxes, matched by place: same labels, scores within 1e-5, coordinates within 1e-3 pixels."""
    head, found = filled_head(name)
    trained_once(head, found)
    with torch.no_grad():
        refined = head.eval().outputs(features(found))
        got = head.predict_by_feat(*refined, metas=metas(found))
    assert len(got) == len(found["outputs"]["pred"])
    for mine, want in zip(got, found["outputs"]["pred"], strict=True):
        assert mine["boxes"].shape == want["boxes"].shape
        assert bool((mine["scores"][:-1] >= mine["scores"][1:]).all())
        near = (mine["boxes"][:, None] - want["boxes"][None]).abs().amax(dim=-1) <= 1e-3
        near &= mine["labels"][:, None] == want["labels"][None]
        near &= (mine["scores"][:, None] - want["scores"][None]).abs() <= 1e-5
        assert bool(near.any(dim=0).all()) and bool(near.any(dim=1).all())
