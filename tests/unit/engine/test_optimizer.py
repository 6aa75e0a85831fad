from __future__ import annotations

import pytest
import torch
from torch import nn

from hatdet.config.check import check
from hatdet.engine.optimizer import build_optimizer, parameter_groups
from hatdet.utils.errors import UserError
from tests.unit.engine import toy


def decays(model: nn.Module, **settings: object) -> dict[str, float]:
    optimizer = build_optimizer(toy.factory(**settings), model)
    names = {id(p): name for name, p in model.named_parameters()}
    return {names[id(p)]: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}


def test_first_matching_substring_decides_the_rest_keeps_the_default() -> None:
    params = {"fc.weight": {"weight_decay": 0.3}, "weight": {"weight_decay": 0.2}}
    found = decays(toy.model(), params=params)
    assert found == {"conv.weight": 0.2, "bn.weight": 0.2, "bn.bias": 0.05, "fc.weight": 0.3, "fc.bias": 0.05}


def test_without_a_weight_decay_of_its_own_the_rest_gets_none() -> None:
    cfg = {"type": torch.optim.SGD, "lr": 0.1, "params": {"weight": {"weight_decay": 5e-5}}}
    optimizer = build_optimizer(toy.Factory(toy.Builder(), cfg), toy.model())
    assert sorted((len(g["params"]), g["weight_decay"]) for g in optimizer.param_groups) == [(2, 0), (3, 5e-5)]


def test_norm_and_bias_decay() -> None:
    found = decays(toy.model(), paramwise={"norm_decay": 0.0, "bias_decay": 0.0})
    assert found == {"conv.weight": 0.05, "bn.weight": 0.0, "bn.bias": 0.0, "fc.weight": 0.05, "fc.bias": 0.0}


def test_shared_and_frozen_parameters() -> None:
    model = toy.model()
    model.again = model.fc
    model.conv.weight.requires_grad_(False)
    groups = parameter_groups(model)
    assert [len(group["params"]) for group in groups] == [4]


def test_mistakes() -> None:
    with pytest.raises(UserError, match="no parameter was left for 'wieght'"):
        decays(toy.model(), params={"wieght": {"weight_decay": 0.0}})
    with pytest.raises(UserError, match="unknown key 'norm_decy'; did you mean 'norm_decay'"):
        decays(toy.model(), paramwise={"norm_decy": 0.0})
    with pytest.raises(UserError, match="paramwise.bias_decay: expected a number, got 'no'"):
        decays(toy.model(), paramwise={"bias_decay": "no"})  # type: ignore[dict-item]
    with pytest.raises(UserError, match="unknown key 'bias'"):  # already when the trainer is built
        toy.trainer(optimizer=toy.factory(paramwise={"bias": 0.0}))
    with pytest.raises(UserError, match=r"optimizer \(AdamW\): Invalid learning rate: -1"):
        build_optimizer(toy.factory(type=torch.optim.AdamW, lr=-1.0), toy.model(), 1.0)
    with pytest.raises(UserError, match="no trainable parameters"):
        parameter_groups(nn.ReLU())


def test_the_config_check_knows_params_and_paramwise() -> None:
    optimizer = {"type": torch.optim.AdamW, "lr": 0.1, "params": {}, "paramwise": {}}
    cfg = {"type": "Trainer", "model": None, "data_loader": None, "optimizer": optimizer}
    assert not [p for p in check(cfg, "t") if "optimizer" in p.path]
    problems = check(cfg | {"optimizer": optimizer | {"paramwize": {}}}, "t")
    assert any("t.optimizer.paramwize" in str(p) and "'paramwise'" in str(p) for p in problems)


def test_fused_adamw_is_deterministic_and_right() -> None:
    """One step of AdamW by hand: with m = v = 0 it moves by lr * sign(gradient) after the decay."""
    results = []
    for _ in range(2):
        layer = nn.Linear(2, 1, bias=False)
        nn.init.constant_(layer.weight, 1.0)
        optimizer = build_optimizer(toy.factory(lr=0.1, weight_decay=0.5), layer)
        layer.weight.grad = torch.tensor([[2.0, -3.0]])
        optimizer.step()
        results.append(layer.weight.detach())
    assert torch.equal(results[0], results[1])
    assert results[0].flatten().tolist() == pytest.approx([0.95 - 0.1, 0.95 + 0.1], abs=1e-6)
