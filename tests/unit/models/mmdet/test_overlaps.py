"""Overlap of boxes, and instances."""

from __future__ import annotations

import pytest
import torch

from hatdet.models.mmdet.instances import Instances
from hatdet.models.mmdet.overlaps import BboxOverlaps2D, BboxOverlaps2D_GLIP, bbox_overlaps
from tests.helpers.components import case, made, names

A = torch.tensor([[0.0, 0.0, 10.0, 10.0], [20.0, 0.0, 30.0, 5.0]])
B = torch.tensor([[5.0, 0.0, 15.0, 10.0], [0.0, 0.0, 10.0, 10.0]])


@pytest.mark.parametrize("name", names("overlaps"))
def test_reference(name: str) -> None:
    kept = case("overlaps", name)
    a, b, mode = (kept["inputs"][key] for key in ("a", "b", "mode"))
    measure = made(kept["args"], kept["type"])
    calls = {
        "all": lambda: measure(a, b, mode),
        "aligned": lambda: measure(a[: len(b)], b, mode, is_aligned=True),
        "empty_a": lambda: measure(a[:0], b, mode),
        "empty_b": lambda: measure(a, b[:0], mode),
        "batched": lambda: measure(torch.stack((a, a)), torch.stack((b, b)), mode),
    }
    for key, want in kept["outputs"].items():
        torch.testing.assert_close(calls[key](), want, rtol=1e-6, atol=1e-6)


def test_modes_by_hand() -> None:
    torch.testing.assert_close(bbox_overlaps(A, B), torch.tensor([[50 / 150, 1.0], [0.0, 0.0]]))
    torch.testing.assert_close(bbox_overlaps(A, B, "iof"), torch.tensor([[0.5, 1.0], [0.0, 0.0]]))
    assert bbox_overlaps(A, B, "giou")[1, 0].item() == pytest.approx(-(250 - 150) / 250)
    torch.testing.assert_close(bbox_overlaps(A, B, is_aligned=True), torch.tensor([50 / 150, 0.0]))
    torch.testing.assert_close(bbox_overlaps(A, B, "iof", is_aligned=True), torch.tensor([0.5, 0.0]))
    with pytest.raises(ValueError, match="unknown mode 'diou'; write one of iou, iof, giou"):
        bbox_overlaps(A, B, "diou")
    with pytest.raises(ValueError, match="boxes do not fit"):
        bbox_overlaps(A, B[:1], is_aligned=True)


def test_half_precision_and_pixels() -> None:
    far = torch.tensor([[0.0, 0.0, 1000.0, 1000.0]])
    assert BboxOverlaps2D(512.0, "fp16")(far, far).item() == pytest.approx(1)
    assert torch.isnan(BboxOverlaps2D(dtype="fp16")(far, far)).all()  # what the scale is there for
    assert BboxOverlaps2D_GLIP()(A[:1], B).tolist() == [[pytest.approx(66 / 176), 1.0]]


def test_instances() -> None:
    found = Instances(priors=A, scores=torch.tensor([0.2, 0.9]))
    assert len(found) == 2 and "scores" in found and found.keys() == ["priors", "scores"]
    assert found[found.scores > 0.5].priors.tolist() == A[1:].tolist()
    assert [one.priors.shape for one in found] == [(1, 4), (1, 4)]
    found.labels = torch.tensor([1, 2])
    assert found[1:].get("labels").tolist() == [2] and found.get("masks") is None
    with pytest.raises(AttributeError, match="these instances have priors, scores, labels, not 'bboxes'"):
        found.bboxes  # noqa: B018
    with pytest.raises(ValueError, match="masks has length 3, these instances 2"):
        found.masks = torch.zeros(3)
    with pytest.raises(ValueError, match="one length"):
        Instances(a=torch.zeros(1), b=torch.zeros(2))
