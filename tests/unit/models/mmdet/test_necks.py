"""Necks against MMDetection's values."""

from __future__ import annotations

import pytest
import torch

from tests.helpers.components import case, made, names, reference, state_sha256


@pytest.mark.parametrize("name", names("necks"))
def test_equal_to_mmdetection(name: str) -> None:
    load, wanted = reference(), case("necks", name)
    part = made(wanted["args"], wanted["type"])
    assert state_sha256(part) == wanted["outputs"]["state_sha256"]
    assert sum(p.numel() for p in part.parameters()) == wanted["outputs"]["parameters"]
    load.fill(part).eval()
    inputs = [load.rnd(n, *s) for n, s in zip(wanted["inputs"]["input_names"], wanted["inputs"]["input_shapes"])]
    with torch.no_grad():
        maps = part(inputs)
    assert load.same(list(maps), wanted["outputs"]["outputs"])
