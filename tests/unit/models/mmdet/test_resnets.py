"""ResNet and the networks made of its blocks."""

from __future__ import annotations

import pytest
import torch

from tests.helpers.components import case, made, names, reference, state_sha256

FAMILIES = ("ResNet", "ResNetV1d", "ResNeXt", "RegNet", "DetectoRS_ResNet")


def _ours(name: object) -> bool:
    return not isinstance(name, str) or case("backbones", name)["type"] in FAMILIES


@pytest.mark.parametrize("name", [name for name in names("backbones") if _ours(name)])
def test_golden(name: str) -> None:
    load, told = reference(), case("backbones", name)
    net = made(told["args"], told["type"]).eval()
    outputs = told["outputs"]
    assert state_sha256(net) == outputs["state_sha256"]
    load.fill(net)
    inputs = [load.rnd(n, *shape) for n, shape in zip(told["inputs"]["input_names"], told["inputs"]["input_shapes"])]
    with torch.no_grad():
        got = net(*inputs)
    assert [list(x.shape) for x in got] == [list(shape) for shape in outputs["shapes"]]
    strides = [round(inputs[0].shape[-1] / x.shape[-1]) for x in got]
    assert net.feature_info.channels == tuple(x.shape[1] for x in got) and list(net.feature_info.strides) == strides
    assert load.same(got, outputs["outputs"], 1e-4)
