"""First weights described by dicts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from hatdet.models.mmdet.layers.deform_conv import DeformConv2dPack
from hatdet.models.mmdet.layers.init import (
    Published,
    bias_init_with_prob,
    caffe2_xavier_init,
    initialize,
    published_of,
    trunc_normal_init,
    zero_offsets,
)
from hatdet.models.mmdet.layers.plugins.context_block import ContextBlock
from hatdet.utils.errors import RegistryError


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3))
        self.head = nn.Conv2d(3, 4, 1)
        self.score = nn.Linear(4, 1)


def test_layers_and_overrides() -> None:
    net = _Net()
    override = {"type": "Constant", "name": "head", "val": 3, "bias_prob": 0.01}
    initialize(
        net,
        [
            {"type": "Constant", "layer": "Conv2d", "val": 2, "bias": 1, "override": override},
            {"type": "Constant", "layer": ["BatchNorm2d"], "val": 0.5},
        ],
    )
    assert set(net.body[0].weight.flatten().tolist()) == {2.0} and net.body[0].bias.tolist() == [1.0] * 3
    assert net.body[1].weight.tolist() == [0.5] * 3 and net.body[1].bias.tolist() == [0.0] * 3
    assert set(net.head.weight.flatten().tolist()) == {3.0}
    assert net.head.bias.tolist() == pytest.approx([-4.59512] * 4, abs=1e-5)  # sigmoid gives 0.01
    before = net.score.weight.clone()
    initialize(net, {"type": "Normal", "std": 5.0})  # no layer is named
    initialize(net, None)
    assert torch.equal(net.score.weight, before)
    initialize(net, {"type": "Constant", "val": 7, "override": {"name": "score"}})
    assert net.score.weight.flatten().tolist() == [7.0] * 4


def test_a_parent_class_names_the_layer() -> None:
    net = _Net()
    initialize(net, {"type": "Constant", "layer": "_BatchNorm", "val": 4})
    assert net.body[1].weight.tolist() == [4.0] * 3


def test_distributions() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(100, 50)
    trunc_normal_init(layer, std=1, a=-0.5, b=0.5, bias=2)
    assert 0.45 < layer.weight.abs().max() <= 0.5 and layer.bias.tolist() == [2.0] * 50
    caffe2_xavier_init(layer)
    assert 0.17 < layer.weight.abs().max() <= (3 / 100) ** 0.5
    for kind, std in (("Xavier", (2 / 150) ** 0.5), ("Kaiming", (2 / 50) ** 0.5), ("Normal", 1.0)):
        initialize(layer, {"type": kind, "layer": "Linear"})
        assert layer.weight.std().item() == pytest.approx(std, rel=0.1)
    initialize(layer, {"type": "Xavier", "layer": "Linear", "distribution": "uniform"})
    assert layer.weight.abs().max().item() == pytest.approx((6 / 150) ** 0.5, rel=0.02)
    initialize(layer, {"type": "Uniform", "layer": "Linear", "a": -1, "b": -0.5})
    assert layer.weight.min() >= -1 and layer.weight.max() <= -0.5
    assert bias_init_with_prob(0.5) == 0


def test_weights_of_a_file(tmp_path: Path) -> None:
    source, net = _Net(), _Net()
    torch.save({"state_dict": {f"module.{k}": v for k, v in source.state_dict().items()}}, tmp_path / "all.pth")
    initialize(net, {"type": "Pretrained", "checkpoint": str(tmp_path / "all.pth")})
    assert torch.equal(net.head.weight, source.head.weight)
    torch.save({"backbone.weight": torch.ones(1, 4), "neck.weight": torch.zeros(1, 4)}, tmp_path / "part.pth")
    initialize(net.score, {"type": "Pretrained", "checkpoint": str(tmp_path / "part.pth"), "prefix": "backbone"})
    assert net.score.weight.tolist() == [[1.0] * 4] and published_of(net) is None


@pytest.mark.parametrize("checkpoint", ["torchvision://resnet50", "nowhere.pth"])
def test_what_is_not_on_this_disk_is_remembered(checkpoint: str, tmp_path: Path) -> None:
    net = _Net()
    initialize(net, {"type": "Pretrained", "checkpoint": checkpoint, "prefix": "backbone"})
    assert published_of(net) == Published(checkpoint, "backbone")
    torch.save({"state_dict": {"other.weight": torch.ones(1)}}, tmp_path / "other.pth")
    with pytest.raises(RegistryError, match="no weight of .* has a name and shape of this part's; mend prefix="):
        initialize(net, {"type": "Pretrained", "checkpoint": str(tmp_path / "other.pth")})


def test_what_a_dict_may_not_say() -> None:
    net = _Net()
    with pytest.raises(RegistryError, match="unknown init_cfg type 'Norml'; did you mean 'Normal'"):
        initialize(net, {"type": "Norml"})
    with pytest.raises(RegistryError, match="init_cfg needs a type, got dict\\(std\\); add it"):
        initialize(net, {"std": 1})
    with pytest.raises(RegistryError, match="Normal has no argument 'sdt'; did you mean 'std'"):
        initialize(net, {"type": "Normal", "sdt": 1})
    with pytest.raises(RegistryError, match="_Net has no submodule 'haed'; did you mean 'head'"):
        initialize(net, {"type": "Normal", "override": {"name": "haed"}})
    with pytest.raises(RegistryError, match="override of 'head' needs a type"):
        initialize(net, {"type": "Normal", "override": {"name": "head", "std": 1}})
    with pytest.raises(RegistryError, match="override needs the name of a submodule"):
        initialize(net, {"type": "Normal", "override": {"std": 1}})
    with pytest.raises(RegistryError, match="distribution='even': write 'uniform' or 'normal'"):
        initialize(net, {"type": "Xavier", "layer": "Conv2d", "distribution": "even"})


def test_parts_that_begin_in_a_way_of_their_own() -> None:
    layers = nn.Sequential(DeformConv2dPack(2, 2, 3), nn.Conv2d(2, 2, 1), ContextBlock(2, 1))
    initialize(layers, {"type": "Constant", "val": 7, "layer": "Conv2d"})
    assert layers[0].conv_offset.weight.abs().sum() == 0 and layers[1].weight.flatten().tolist() == [7.0] * 4
    assert layers[2].channel_add_conv[-1].weight.abs().sum() == 0
    initialize(layers, {"type": "Constant", "val": 7, "layer": "DeformConv2dPack"})
    assert set(layers[0].weight.flatten().tolist()) == {7.0}


def test_offsets_begin_at_zero() -> None:
    net = nn.Module()
    net.conv_offset = nn.Conv2d(1, 18, 1)
    zero_offsets(net)
    assert net.conv_offset.weight.abs().sum() == 0 and net.conv_offset.bias.abs().sum() == 0
