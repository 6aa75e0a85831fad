"""Backbones that are no ResNets, against MMDetection's values."""

from __future__ import annotations

import pytest
import torch

from tests.helpers.components import case, made, names, reference, state_sha256

NAMES = (
    "cspdarknet_p5", "cspdarknet_p6_dw", "cspnext", "darknet53", "efficientnet_b0", "hourglass", "mobilenetv2",
    "pvtv2_b0", "ssdvgg300", "ssdvgg_small", "swin_w7",
)  # fmt: skip


def test_equal_to_mmdetection(name: str) -> None:
    load, wanted = reference(), case("backbones", name)
    part = made(wanted["args"], wanted["type"])
    assert state_sha256(part) == wanted["outputs"]["state_sha256"]
    assert sum(p.numel() for p in part.parameters()) == wanted["outputs"]["parameters"]
    load.fill(part).eval()
    inputs = [load.rnd(n, *s) for n, s in zip(wanted["inputs"]["input_names"], wanted["inputs"]["input_shapes"])]
    with torch.no_grad():
        maps = part(*inputs)
    assert load.same(list(maps), wanted["outputs"]["outputs"])
    info = part.feature_info
    assert info.channels == tuple(m.shape[1] for m in maps)
    assert info.strides == tuple(-(-inputs[0].shape[-1] // m.shape[-1]) for m in maps) or name.startswith("ssd")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "name" in metafunc.fixturenames:
        found = names("backbones")
        metafunc.parametrize("name", [n for n in found if n in NAMES] or found)
