"""Layers made of dicts, and names in their scope."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import nn

from hatdet.models.mmdet.building import in_scope
from hatdet.models.mmdet.layers.conv import ConvModule, DepthwiseSeparableConvModule
from hatdet.models.mmdet.layers.norm import build_norm
from hatdet.registry import registered_names, resolve
from hatdet.utils.errors import RegistryError


def test_names_that_the_scope_has_not_stay() -> None:
    cfg = {"type": "Nothing", "a": [({"type": "toys.X"},)]}
    assert in_scope(cfg) == cfg


def test_a_module_has_what_its_dicts_say() -> None:
    module = ConvModule(4, 6, 3, padding=1, norm_cfg={"type": "GN", "num_groups": 3}, act_cfg={"type": "LeakyReLU"})
    assert [name for name, _ in module.named_children()] == ["conv", "gn", "activate"]
    assert not module.with_bias and isinstance(module.norm, nn.GroupNorm)
    plain = ConvModule(4, 6, 1, act_cfg=None, order=("norm", "conv", "act"), norm_cfg={"type": "BN"}, bias=True)
    assert plain.conv.bias is not None and isinstance(plain.norm, nn.BatchNorm2d) and plain.norm.num_features == 4
    two = DepthwiseSeparableConvModule(4, 6, 3, padding=1, norm_cfg={"type": "BN"}, pw_act_cfg=None)
    assert two.depthwise_conv.conv.groups == 4 and not two.pointwise_conv.with_activation
    assert two(torch.zeros(1, 4, 5, 5)).shape == (1, 6, 5, 5)


def test_a_norm_that_does_not_learn() -> None:
    assert not any(p.requires_grad for p in build_norm({"type": "BN", "requires_grad": False}, 4).parameters())


def test_what_a_dict_may_not_say() -> None:
    with pytest.raises(RegistryError, match=r"unknown norm_cfg type 'BNN'; did you mean 'BN'"):
        build_norm({"type": "BNN"}, 4)
    with pytest.raises(RegistryError, match=r"norm_cfg BN: .*'groups'; leave that argument out"):
        build_norm({"type": "BN", "groups": 2}, 4)
    with pytest.raises(RegistryError, match=r"unknown act_cfg type 'Relu'; did you mean 'ReLU'"):
        ConvModule(3, 4, 1, act_cfg={"type": "Relu"})
    with pytest.raises(RegistryError, match=r"unknown conv_cfg type 'Conv2D'; did you mean 'Conv2d'"):
        ConvModule(3, 4, 1, conv_cfg={"type": "Conv2D"})


def test_what_is_registered_can_be_built() -> None:
    """No name leads to a class that leaves something to its subclasses."""
    parts = {name: resolve(name) for name in registered_names() if name.startswith("mmdet.")}
    assert len(parts) > 150
    assert [name for name, part in parts.items() if inspect.isclass(part) and inspect.isabstract(part)] == []
