"""Schedules of MMEngine, and policies of 2.x."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from hatdet.engine.callbacks.schedules.cos_lr import CosLrUpdater
from hatdet.engine.callbacks.schedules.lr_policies.callback import LrPolicy
from hatdet.engine.callbacks.schedules.param_schedulers.callback import ParamSchedulers
from hatdet.engine.callbacks.validation import Validation
from hatdet.utils.errors import UserError
from tests.helpers import components
from tests.unit.engine import toy

BASE, LENGTH, EPOCHS = 0.02, 4, 10


def group(**others: Any) -> dict[str, Any]:
    return {"lr": BASE, "initial_lr": BASE, "momentum": 0.9, **others}


def loop_of(*groups: dict[str, Any], callback: Any = None) -> Any:
    return SimpleNamespace(
        optimizer=SimpleNamespace(param_groups=list(groups)),
        steps_per_epoch=LENGTH,
        num_epochs=EPOCHS,
        total_steps=LENGTH * EPOCHS,
        callbacks=[callback],
        progress=SimpleNamespace(step=0),
        validated_at=-1,
        values={},
    )


def rates(callback: Any, name: str = "lr", metrics: list[float] | None = None) -> list[float]:
    """What is used in each iteration; ``metrics``: what a validation after each epoch measures."""
    own, found = group(), []
    loop = loop_of(own, callback=callback)
    callback.on_loop_begin(loop)
    for step in range(loop.total_steps):
        loop.progress.step = step
        callback.on_step_begin(loop)
        found.append(own[name])
        if metrics is not None and (step + 1) % LENGTH == 0:
            loop.values, loop.validated_at = {"m": metrics[step // LENGTH]}, step + 1
            callback.on_epoch_end(loop)
    return found


def scheduled(*schedulers: dict[str, Any]) -> ParamSchedulers:
    return ParamSchedulers(schedulers=list(schedulers))


@pytest.mark.parametrize("name", components.names("schedules"))
def test_schedules_are_the_references(name: str) -> None:
    case = components.case("schedules", name)
    assert case["inputs"] == {"base_lr": BASE, "momentum": 0.9, "epochs": EPOCHS, "epoch_length": LENGTH}
    for setting in ("lr", "momentum"):
        found = rates(scheduled(*case["args"]["param_scheduler"]), setting)
        assert found == pytest.approx(case["outputs"][setting].tolist(), rel=1e-12)


@pytest.mark.parametrize("name", components.names("lr_config"))
def test_policies_are_the_references(name: str) -> None:
    case = components.case("lr_config", name)
    assert case["inputs"] == {"base_lr": BASE, "epochs": EPOCHS, "epoch_length": LENGTH}
    found = rates(LrPolicy(lr_config=case["args"]))
    assert found == pytest.approx(case["outputs"]["lr"].tolist(), rel=1e-12)


def test_cycles_that_only_fall() -> None:
    cycle = {"policy": "cyclic", "target_ratio": (3, 0.1), "cyclic_times": 10, "step_ratio_up": 0.1, "gamma": 0.5}
    found = rates(LrPolicy(lr_config={**cycle, "anneal_strategy": "linear"}))
    # Four iterations each, none of them up: from 3 to 0.1, then from 3 to half way from 0.1 to 1.
    assert found[:8:2] == pytest.approx([BASE * 3, BASE * 1.55, BASE * 3, BASE * (3 + 0.55) / 2])


def test_decay_of_some_epochs() -> None:
    found = rates(scheduled({"type": "ExponentialLR", "gamma": 0.5, "begin": 2, "end": 5}))
    assert found[::LENGTH] == pytest.approx([BASE, BASE, BASE, BASE / 2] + [BASE / 4] * 6)


def test_epochs_as_iterations() -> None:
    found = rates(scheduled({"type": "MultiStepLR", "milestones": [2.5, 4], "convert_to_iter_based": True}))
    assert found == pytest.approx([BASE] * 10 + [BASE / 10] * 6 + [BASE / 100] * 24)


def test_what_comes_after_one_cycle_starts_from_its_start() -> None:
    wave = {"type": "CosineAnnealingLR", "eta_min_ratio": 0.5, "by_epoch": False, "T_max": 2, "begin": 39}
    callback = scheduled({"type": "OneCycleLR", "eta_max": 0.1, "by_epoch": False}, wave)
    rates(callback)
    (name, (track,)) = callback._tracks[0]
    assert name == "lr" and track._bases == pytest.approx([0.004, 0.004])


def test_rates_wait_for_validations_that_get_no_better() -> None:
    plateau = {"type": "ReduceOnPlateauLR", "monitor": "m", "rule": "greater", "factor": 0.5, "patience": 1}
    metrics = [0.5, 0.6, 0.6, 0.55, 0.61, 0.61, 0.61, 0.7, 0.7, math.nan]
    found = rates(scheduled(plateau), metrics=metrics)
    # worse after epochs 3 and 4 (twice in a row), and after 6 and 7
    assert found[::LENGTH] == pytest.approx([BASE] * 4 + [BASE / 2] * 3 + [BASE / 4] * 3)
    cooling = scheduled({**plateau, "patience": 0, "cooldown": 1, "min_value": 0.004})
    assert rates(cooling, metrics=metrics)[-1] == pytest.approx(0.004)
    again = scheduled(plateau)
    whole = scheduled(plateau)
    rates(whole, metrics=metrics)
    again.load_state_dict(whole.state_dict())
    loop = loop_of(own := group(), callback=again)
    loop.progress.step = 30
    again.on_loop_begin(loop)
    again.on_step_begin(loop)
    assert own["lr"] == pytest.approx(BASE / 4)


def test_a_resumed_training_has_the_same_rates() -> None:
    schedulers = [
        {"type": "LinearLR", "start_factor": 0.1, "by_epoch": False, "end": 9},
        {"type": "CosineAnnealingLR", "eta_min": 0.001, "begin": 1, "convert_to_iter_based": True},
    ]
    whole = rates(scheduled(*schedulers))
    callback = scheduled(*schedulers)
    loop = loop_of(own := group(lr=123.0), callback=callback)
    loop.progress.step = 17
    callback.on_loop_begin(loop)
    callback.on_step_begin(loop)
    assert own["lr"] == whole[17]


def test_each_group_has_its_own_rate() -> None:
    callback = scheduled({"type": "LinearLR", "start_factor": 0.5, "end": 5})
    first, second = group(), group(lr=1.0, initial_lr=1.0)
    callback.on_loop_begin(loop := loop_of(first, second, callback=callback))
    callback.on_step_begin(loop)
    assert (first["lr"], second["lr"]) == (BASE / 2, 0.5)
    peaks = scheduled({"type": "OneCycleLR", "eta_max": [0.25, 0.5], "by_epoch": False})
    peaks.on_loop_begin(loop)
    peaks.on_step_begin(loop)
    assert (first["lr"], second["lr"]) == pytest.approx((0.01, 0.02))


def test_adams_momentum_is_its_first_beta() -> None:
    adam = {"lr": BASE, "initial_lr": BASE, "betas": (0.9, 0.999), "weight_decay": 0.1}
    callback = scheduled(
        {"type": "ConstantMomentum", "factor": 0.5, "end": 2},
        {"type": "ConstantParamScheduler", "param_name": "weight_decay", "factor": 0.1, "end": 2},
    )
    callback.on_loop_begin(loop := loop_of(adam, callback=callback))
    callback.on_step_begin(loop)
    assert adam["betas"] == (0.45, 0.999) and adam["weight_decay"] == pytest.approx(0.01) and adam["lr"] == BASE


def test_a_training_with_schedules() -> None:
    run = toy.trainer(
        callbacks=[
            Validation(data_loader=toy.loader(8), val_metrics=toy.ToyMetric()),
            scheduled(
                {"type": "LinearLR", "start_factor": 0.5, "by_epoch": False, "end": 3},
                {"type": "ReduceOnPlateauLR", "monitor": "AP", "rule": "greater", "threshold": 9.0, "patience": 0},
                {"type": "StepMomentum", "step_size": 1, "gamma": 0.5},
            ),
        ],
    )
    run.fit()
    (only,) = run.optimizer.param_groups
    assert only["lr"] == pytest.approx(0.01) and only["betas"][0] == pytest.approx(0.45)


@pytest.mark.parametrize(("cfg", "expected"), [
    # at iteration 0, 4 and 39 of 40, of 0.02
    ({"policy": "inv", "gamma": 1.0, "by_epoch": False}, (0.02, 0.004, 0.0005)),
    ({"policy": "step", "step": 4, "gamma": 0.5, "min_lr": 0.004}, (0.02, 0.02, 0.005)),
    ({"policy": "LinearAnnealing", "min_lr": 0.0}, (0.02, 0.018, 0.002)),
    ({"policy": "FlatCosineAnnealing", "min_lr_ratio": 0.5, "start_percent": 0.5},
     (0.02, 0.02, 0.015 + 0.005 * math.cos(0.8 * math.pi))),
    # 6 iterations of parabola, 2 epochs flat: half a cosine over 26
    ({"policy": "YOLOX", "warmup": "exp", "warmup_iters": 6, "warmup_ratio": 1, "num_last_epochs": 2,
      "min_lr_ratio": 0.05, "by_epoch": False}, (0.02 / 36, 0.02 * 25 / 36, 0.001)),
    ({"type": "FixedLrUpdaterHook"}, (0.02, 0.02, 0.02)),
])  # fmt: skip
def test_other_policies_by_hand(cfg: dict[str, Any], expected: tuple[float, ...]) -> None:
    found = rates(LrPolicy(lr_config=cfg))
    assert (found[0], found[4], found[39]) == pytest.approx(expected)


@pytest.mark.parametrize(("cfg", "expected"), [
    ({"policy": "step", "step": [5]}, (0.9, 0.45)),
    ({"policy": "CosineAnnealing", "min_momentum_ratio": 0.5, "by_epoch": False}, (0.9, 0.675)),
    ({"policy": "LinearAnnealing", "min_momentum": 0.0, "warmup": "constant", "warmup_iters": 2, "warmup_ratio": 0.9},
     (1.0, 0.45)),
    # down to 0.85 / 0.95 of it in 16 iterations, up again in 24
    ({"policy": "cyclic"}, (0.9, 0.9 + 0.5 * (0.85 / 0.95 - 1) * 0.9 * (math.cos(math.pi / 6) + 1))),
    ({"policy": "OneCycle", "pct_start": 0.525}, (0.95, 0.85)),
])  # fmt: skip
def test_the_momentum_by_hand(cfg: dict[str, Any], expected: tuple[float, float]) -> None:
    found = rates(LrPolicy(lr_config={"policy": "fixed"}, momentum_config=cfg), "momentum")
    assert (found[0], found[20]) == pytest.approx(expected)


@pytest.mark.parametrize(("cfg", "message"), [
    ({"type": "LinearsLR"}, r"schedulers\[0\]: unknown type 'LinearsLR'; did you mean 'LinearLR'"),
    ({"type": "OneCycleMomentum", "eta_max": 1}, "unknown type 'OneCycleMomentum'"),
    ({"type": "LinearLR", "start_facto": 1}, "unknown argument 'start_facto'; did you mean 'start_factor'"),
    ({"type": "LinearLR", "start_factor": 0}, "start_factor is above 0 and at most 1, got 0"),
    ({"type": "LinearLR", "begin": 5, "end": 5}, "end comes after begin, got begin=5 and end=5"),
    ({"type": "MultiStepLR"}, r"\(MultiStepLR\): milestones is missing; add it"),
    ({"type": "ConstantLR", "by_epoch": False, "convert_to_iter_based": True}, "set by_epoch=True or leave it out"),
    ({"type": "ReduceOnPlateauLR", "by_epoch": False}, "set by_epoch=True"),
    ({"type": "CosineRestartLR", "periods": [1, 2], "eta_min": 0}, "each period has a weight, got 2 and 1"),
])  # fmt: skip
def test_schedules_that_cannot_be(cfg: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        scheduled(cfg)


@pytest.mark.parametrize(("cfg", "message"), [
    ({"policy": "steps"}, "lr_config: unknown policy 'steps'; did you mean 'step'"),
    ({"policy": "step"}, r"lr_config \(step\): step is missing; add it"),
    ({"policy": "step", "step": [3], "steps": 2}, "unknown argument 'steps'; did you mean 'step'"),
    ({"policy": "fixed", "warmup": "square"}, "warmup is 'constant', 'linear', 'exp' or None, got 'square'"),
    ({"policy": "fixed", "warmup": "exp"}, "warmup_iters of at least 1"),
    ({"policy": "CosineAnnealing"}, "give one of min and min ratio, got None and None"),
])  # fmt: skip
def test_policies_that_cannot_be(cfg: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        LrPolicy(lr_config=cfg)


def test_one_callback_sets_the_rate() -> None:
    with pytest.raises(UserError, match="there are 2: CosLrUpdater, ParamSchedulers"):
        toy.trainer(callbacks=[CosLrUpdater(), scheduled({"type": "LinearLR"})]).fit()
    both = [CosLrUpdater(), scheduled({"type": "LinearMomentum"})]
    toy.trainer(callbacks=both, num_epochs=1).fit()


def test_settings_that_the_optimizer_has_not() -> None:
    callback = scheduled({"type": "LinearParamScheduler", "param_name": "momentums"})
    with pytest.raises(UserError, match=r"no momentums to schedule; it has lr, .*: name one of them"):
        callback.on_loop_begin(loop_of(group(), callback=callback))
    missing = scheduled({"type": "ReduceOnPlateauLR", "monitor": "AP"})
    with pytest.raises(UserError, match="monitor='AP' is not among what the validation gives: m"):
        rates(missing, metrics=[0.0] * 10)
