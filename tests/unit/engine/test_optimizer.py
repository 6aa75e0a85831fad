from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from hatdet.config.check import check
from hatdet.engine.optimizer import build_optimizer, parameter_groups
from hatdet.utils.errors import UserError
from tests.helpers import components
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


def settings(model: nn.Module, paramwise_cfg: dict[str, Any] | None, **optimizer: Any) -> dict[str, dict[str, float]]:
    """Learning rate and weight decay of each trainable parameter's names."""
    cfg = {"type": torch.optim.SGD, "lr": 0.01, "weight_decay": 0.1, "paramwise_cfg": paramwise_cfg, **optimizer}
    built = build_optimizer(toy.Factory(toy.Builder(), cfg), model)
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return {
        "|".join(names[id(parameter)]): {key: group[key] for key in ("lr", "weight_decay")}
        for group in built.param_groups
        for parameter in group["params"]
    }


@pytest.mark.parametrize("name", components.names("paramwise"))
def test_settings_of_parameters_are_the_references(name: str) -> None:
    case = components.case("paramwise", name)
    optimizer = {key: value for key, value in case["args"]["optimizer"].items() if key != "type"}
    net = components.reference().Net(dup=case["inputs"]["parameters"][-1].startswith("head.fc2"))
    found = settings(net, case["args"]["paramwise_cfg"], **optimizer)
    wanted = dict(case["outputs"]["groups"])
    if case["args"]["paramwise_cfg"] is None:  # the reference hands over the frozen one, too
        wanted.pop("backbone.0.conv.weight")
    assert found.keys() == wanted.keys()
    for parameter, want in wanted.items():
        assert found[parameter] == pytest.approx(want, rel=1e-9), parameter


def test_the_longest_custom_key_decides() -> None:
    keys = {"conv": {"lr_mult": 2.0}, "conv.weight": {"decay_mult": 0.5}, "fc": {"lr_mult": 0.0, "momentum": 0.5}}
    model = toy.model()
    model.again = model.fc
    found = settings(model, {"custom_keys": keys, "norm_decay_mult": 0.0})
    assert found["conv.weight"] == {"lr": 0.01, "weight_decay": 0.05}
    assert found["fc.bias|again.bias"] == {"lr": 0.0, "weight_decay": 0.1}
    assert found["bn.weight"] == {"lr": 0.01, "weight_decay": 0.0}


def test_a_custom_key_that_no_parameter_has_is_said(caplog: pytest.LogCaptureFixture) -> None:
    settings(toy.model(), {"custom_keys": {"absolute_pos_embed": {"decay_mult": 0.0}}})
    assert "no parameter has 'absolute_pos_embed' in its name" in caplog.text


def test_offsets_of_deformable_convolutions() -> None:
    class Deformable(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.bias = nn.Parameter(torch.zeros(2, 2, 3, 3)), nn.Parameter(torch.zeros(2))
            self.conv_offset = nn.Conv2d(2, 18, 3)

    cfg = {"dcn_offset_lr_mult": 0.1, "bias_lr_mult": 2.0, "bias_decay_mult": 0.0, "flat_decay_mult": 0.5}
    found = settings(nn.Sequential(Deformable()), cfg)
    assert (
        found["0.conv_offset.weight"] == found["0.conv_offset.bias"] == pytest.approx({"lr": 1e-3, "weight_decay": 0.1})
    )
    assert found["0.bias"] == {"lr": 0.02, "weight_decay": 0.0} and found["0.weight"] == {
        "lr": 0.01,
        "weight_decay": 0.1,
    }


def test_groups_are_few() -> None:
    cfg = {"type": torch.optim.SGD, "lr": 0.1, "weight_decay": 0.2, "paramwise_cfg": {"norm_decay_mult": 0.0}}
    optimizer = build_optimizer(toy.Factory(toy.Builder(), cfg), toy.model())
    assert [len(group["params"]) for group in optimizer.param_groups] == [3, 2]


def test_mistakes_in_paramwise_cfg() -> None:
    with pytest.raises(UserError, match="unknown key 'norm_decay'; did you mean 'norm_decay_mult'"):
        toy.trainer(optimizer=toy.factory(paramwise_cfg={"norm_decay": 0.0}))
    with pytest.raises(UserError, match="paramwise_cfg.bias_lr_mult is a number that multiplies, got '2'"):
        settings(toy.model(), {"bias_lr_mult": "2"})
    with pytest.raises(UserError, match="custom_keys is a dict of dicts, got {'fc': 2}"):
        settings(toy.model(), {"custom_keys": {"fc": 2}})
    with pytest.raises(UserError, match="paramwise_cfg does not go with params and paramwise"):
        settings(toy.model(), {"norm_decay_mult": 0.0}, params={"fc": {"lr": 1.0}})
    cfg = {"type": torch.optim.SGD, "lr": 0.1, "paramwise_cfg": {"norm_decay_mult": 0.0}}
    with pytest.raises(UserError, match="multiplies weight_decay, which the optimizer is not given"):
        build_optimizer(toy.Factory(toy.Builder(), cfg), toy.model())


class ConvNeXt(nn.Module):
    """Its parts by their names: a stem and three steps between stages, and the stages' blocks."""

    def __init__(self, depths: tuple[int, ...] = (1, 1, 4, 1)) -> None:
        super().__init__()
        self.downsample_layers = nn.ModuleList(nn.Sequential(nn.Conv2d(2, 2, 1)) for _ in depths)
        self.stages = nn.ModuleList(
            nn.Sequential(*(nn.Sequential(nn.Conv2d(2, 2, 1)) for _ in range(depth))) for depth in depths
        )


class Detector(nn.Module):
    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone, self.neck = backbone, nn.Conv2d(2, 2, 1)


@pytest.mark.parametrize(
    "kind, depths",
    [
        (None, {"downsample_layers.0.0": 0, "stages.0.0.0": 1, "downsample_layers.1.0": 2, "stages.1.0.0": 2,
                "downsample_layers.2.0": 3, "stages.2.2.0": 3, "stages.2.3.0": 4, "downsample_layers.3.0": 6,
                "stages.3.0.0": 6}),
        ("stage_wise", {"downsample_layers.0.0": 0, "downsample_layers.3.0": 0, "stages.0.0.0": 1, "stages.2.3.0": 3,
                        "stages.3.0.0": 4}),
    ],
)  # fmt: skip
def test_layers_near_the_picture_learn_slowly(kind: str | None, depths: dict[str, int]) -> None:
    """With 6 layers the neck has depth 7 and the whole rate; biases do not decay."""
    cfg = {"decay_rate": 0.5, "num_layers": 6, **({"decay_type": kind} if kind else {})}
    found = settings(Detector(ConvNeXt()), cfg, constructor="LearningRateDecayOptimizerConstructor")
    assert found["neck.weight"] == {"lr": 0.01, "weight_decay": 0.1}
    for name, depth in depths.items():
        assert found[f"backbone.{name}.weight"] == pytest.approx({"lr": 0.01 * 0.5 ** (7 - depth), "weight_decay": 0.1})
        assert found[f"backbone.{name}.bias"]["weight_decay"] == 0


def test_mistakes_with_decay_by_layer() -> None:
    decay = {"constructor": "LearningRateDecayOptimizerConstructor"}
    with pytest.raises(UserError, match=r"has norm_decay_mult; write decay_rate, num_layers, decay_type"):
        toy.trainer(optimizer=toy.factory(paramwise_cfg={"norm_decay_mult": 0.0}, **decay))
    with pytest.raises(UserError, match=r"has nothing; write decay_rate, num_layers, decay_type"):
        settings(toy.model(), None, **decay)
    good = {"decay_rate": 0.5, "num_layers": 6}
    with pytest.raises(UserError, match=r"decay_type='block_wise'; write 'layer_wise' or 'stage_wise'"):
        settings(toy.model(), {**good, "decay_type": "block_wise"}, **decay)
    with pytest.raises(UserError, match=r"knows the layers of ConvNeXt, the backbone is Conv2d; leave constructor out"):
        settings(Detector(nn.Conv2d(1, 1, 1)), good, **decay)
    with pytest.raises(UserError, match=r"optimizer.constructor: 'Other' is not here; write 'LearningRateDecay"):
        toy.trainer(optimizer=toy.factory(constructor="Other"))


class _Staged(nn.Module):
    """Two stages and something beside them."""

    def __init__(self, stages: object = (("stem",), ("body.0", "body.1"))) -> None:
        super().__init__()
        self.stem, self.body, self.beside = nn.Linear(1, 1), nn.ModuleList([nn.Linear(1, 1)] * 1), nn.Linear(1, 1)
        if stages is not None:
            self.stages = stages


class _Detector(nn.Module):
    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone, self.head = backbone, nn.Linear(1, 1)


def rates(model: nn.Module, **paramwise: float) -> dict[str, float]:
    optimizer = build_optimizer(toy.factory(lr=1.0, paramwise=paramwise), model)
    names = {id(p): name for name, p in model.named_parameters()}
    return {names[id(p)]: group["lr"] for group in optimizer.param_groups for p in group["params"]}


def test_the_backbone_learns_slower_and_the_nearer_to_the_picture_the_slower() -> None:
    found = rates(_Detector(_Staged()), backbone_lr=0.5, stage_decay=0.5, norm_decay=0.0)
    weights = {name.removesuffix(".weight"): rate for name, rate in found.items() if name.endswith("weight")}
    assert weights == {"backbone.stem": 0.25, "backbone.body.0": 0.5, "backbone.beside": 0.5, "head": 1.0}
    assert set(rates(_Detector(_Staged(None)), backbone_lr=0.5).values()) == {0.5, 1.0}
    assert set(rates(_Detector(_Staged(None)), backbone_lr=1.0, stage_decay=1.0).values()) == {1.0}


def test_rates_of_a_backbone_that_are_refused() -> None:
    with pytest.raises(UserError, match=r"stage_decay=0.5: the backbone _Staged does not say its stages; leave it out"):
        rates(_Detector(_Staged(None)), stage_decay=0.5)
    with pytest.raises(UserError, match="multiply, but the model has no backbone; leave them out"):
        rates(nn.Linear(1, 1), backbone_lr=0.1)
    factory = toy.Factory(toy.Builder(), {"type": torch.optim.Adam, "paramwise": {"backbone_lr": 0.1}})
    with pytest.raises(UserError, match="multiply, but the optimizer's lr is not given"):
        build_optimizer(factory, _Detector(_Staged()))
