"""Heads whose priors are boxes, against reference values."""

from typing import Any

import pytest
import torch
from torch import Tensor

from hatdet.models.mmdet.heads.base import Truth
from tests.helpers import components

CASES = (
    "free_anchor", "fsaf", "ga_retina", "ga_rpn", "pisa_retina", "retina_ghm", "rpn_2conv_giou", "ssd", "yolof",
    "yolov3",
)  # fmt: skip
OURS = [name for name in components.names("heads") if not isinstance(name, str) or name in CASES]
GUIDED = ("ga_retina", "ga_rpn")  # their reference predicts the first picture alone
LOSS_TOLERANCE = {"free_anchor": 5e-4}


def _head(name: str) -> tuple[dict[str, Any], Any, list[Tensor]]:
    case, reference = components.case("heads", name), components.reference()
    head = reference.fill(components.made(case["args"]))
    inputs = case["inputs"]
    feats = [reference.rnd(n, *s) for n, s in zip(inputs["feature_names"], inputs["feature_shapes"], strict=True)]
    return case, head, feats


def _flat(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [part for item in value for part in _flat(item)]


def _meta(case: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(v) if isinstance(v, list) else v for key, v in case["inputs"]["img_meta"].items()}


@pytest.mark.parametrize("name", OURS)
def test_state_and_maps(name: str) -> None:
    case, head, feats = _head(name)
    want = case["outputs"]
    assert sorted(f"{key} {tuple(value.shape)}" for key, value in head.state_dict().items()) == want["state"]
    pictures = 1 if name in GUIDED else 2
    with torch.no_grad():
        same = components.reference().same
        trained = _flat(head.train().outputs(feats))  # the reference's running means have seen one batch
        if "train_maps" in want:
            assert same(trained, want["train_maps"])
        maps = _flat(head.eval().outputs([x[:pictures] for x in feats]))
        assert [list(level.shape) for level in maps] == want["map_shapes"]
        assert same(maps, want["maps"])


@pytest.mark.parametrize("name", OURS)
def test_predictions(name: str) -> None:
    case, head, feats = _head(name)
    want = case["outputs"]["pred"]
    with torch.no_grad():
        head.train().outputs(feats)
        raw = head.levels(head.eval()([x[: len(want)] for x in feats]))
        metas = [_meta(case)] * len(want)
        found = head.predict(*raw, metas=metas)
        refined = head.predict_by_feat(*head.refine(*raw), metas=metas)
    for got, expected in zip([*found, *refined], [*want, *want], strict=True):
        assert len(got["scores"]) == len(expected["scores"]) > 0
        _matched(got, expected)


def _matched(got: dict[str, Tensor], want: dict[str, Tensor]) -> None:
    """The same boxes and labels, near-equal scores in any order."""
    far = torch.cdist(got["boxes"], want["boxes"], p=float("inf")) + 1e6 * (
        got["labels"][:, None] != want["labels"][None]
    )
    partner = far.argmin(dim=1)
    assert partner.unique().numel() == len(partner)
    assert far.min(dim=1).values.max() < 1e-3
    assert (got["scores"] - want["scores"][partner]).abs().max() < 1e-5
    assert (got["scores"].diff() < 1e-5).all()


@pytest.mark.parametrize("name", OURS)
def test_losses_and_gradients(name: str) -> None:
    case, head, feats = _head(name)
    want, same = case["outputs"], components.reference().same
    feats = [x.requires_grad_() for x in feats]
    truths = [Truth(gt["bboxes"], gt["labels"]) for gt in case["inputs"]["gt"]]
    torch.manual_seed(0)
    losses = head.train().loss_by_feat(*head.outputs(feats), truths=truths, metas=[_meta(case)] * 2)
    assert list(losses) == list(want["loss"])
    for key, value in want["loss"].items():
        got = losses[key]
        assert same(got, value, LOSS_TOLERANCE.get(name, 1e-5)), (key, got, value)
    total = sum(part.sum() for key, value in losses.items() if "loss" in key for part in _flat(value))
    total.backward()
    norms = [x.grad.norm() for x in feats]
    assert same(norms, want["grad_feat_norms"], 1e-3)
