"""Schedules, the average of the weights, checkpoints and resuming: each number and limit by hand."""

from __future__ import annotations

import inspect
import logging
import math
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from hatdet.engine.callbacks.checkpoint import Checkpoint
from hatdet.engine.callbacks.ema import ExponentialMovingAverage, averaged_tensors
from hatdet.engine.callbacks.schedules.cos_lr import CosLrUpdater
from hatdet.engine.callbacks.schedules.one_cycle_lr import OneCycleUpdater
from hatdet.engine.callbacks.schedules.poly_lr import PolyLrUpdater
from hatdet.engine.callbacks.schedules.schedule import LrUpdater, Warmup, to_steps
from hatdet.engine.callbacks.schedules.step_decay_lr import StepDecayLrUpdater
from hatdet.engine.checkpoints import resume
from hatdet.engine.checkpoints.resume import Pace, changes, describe, position
from hatdet.engine.progress import Progress
from hatdet.utils.checkpoints.checkpoint import load_checkpoint
from hatdet.utils.errors import UserError
from tests.unit.engine import toy


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (ExponentialMovingAverage, {"momentum": 0.0002, "gamma": 2000.0, "update_buffers": True}),
        (CosLrUpdater, {"warmup_len": 0, "warmup_by": "step", "warmup_start_factor": 1e-5, "flat_ratio": 0.0,
                        "min_lr_ratio": 0.0, "step_log_interval": None}),
        (OneCycleUpdater, {"pct_start": 0.3, "div_factor": 25.0, "final_div_factor": 1e4, "step_log_interval": None}),
        (PolyLrUpdater, {"power": 0.9, "min_lr_ratio": 0.0, "warmup_len": 0, "warmup_by": "epoch",
                         "warmup_start_factor": 0.0, "step_log_interval": None}),
        (StepDecayLrUpdater, {"warmup_by": "epoch", "warmup_len": 0, "lr_decay_id": (), "lr_decay_factor": 0.1,
                              "warmup_start_factor": 0.0, "step_log_interval": None}),
        (Checkpoint, {"name_prefix": "float", "save_interval": 1, "mode": "max", "monitor_metric_key": "AP", "keep": 3,
                      "save_last_every_steps": None}),
    ],
)  # fmt: skip
def test_defaults(kind: Any, expected: dict[str, Any]) -> None:
    """A config that leaves an argument out trains with these: they never change."""
    parameters = inspect.signature(kind).parameters.values()
    assert {p.name: p.default for p in parameters if p.default is not p.empty} == expected


# ------------------------------------------------------------------------------------------- schedules
def factors(updater: LrUpdater, total: int, per_epoch: int = 1, more: int = 0) -> list[float]:
    loop: Any = SimpleNamespace(total_steps=total, steps_per_epoch=per_epoch)
    updater.prepare(loop)
    return [updater.factor(step) for step in range(total + more)]


def test_lengths_in_steps() -> None:
    loop: Any = SimpleNamespace(total_steps=200, steps_per_epoch=20)
    assert [to_steps(2.6, "step", loop), to_steps(0.33, "epoch", loop), to_steps(0.33, "fraction", loop)] == [3, 7, 66]


def test_a_warm_up_by_hand() -> None:
    rising, inclusive = Warmup(4, 0.2), Warmup(4, 0.2, inclusive=True)
    assert [rising.factor(i) for i in range(6)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1])
    assert [inclusive.factor(i) for i in range(5)] == pytest.approx([0.2, 0.2 + 0.8 / 3, 0.2 + 1.6 / 3, 1, 1])
    assert Warmup(0, 0.2).factor(0) == 1 and Warmup(0, 0.2, inclusive=True).factor(0) == 1
    assert Warmup(1, 0.2).factor(0) == 0.2 and Warmup(1, 0.2, inclusive=True).factor(0) == 1


def chain(total: int, warmup: int, start: float, begin: int, minimum: float) -> list[float]:
    """MMEngine's LinearLR and CosineAnnealingLR, each a recursion of its own, one after the other in every step."""
    rate, rates, length = start if warmup > 1 else 1.0, [], total - begin
    for step in range(total):
        if 0 < step < warmup:
            before = start + (1 - start) * (step - 1) / (warmup - 1)
            rate *= 1 + (1 - start) / (warmup - 1) / before
        if step > begin:
            now, before = (1 + math.cos(math.pi * (s - begin) / length) for s in (step, step - 1))
            rate = (rate - minimum) * now / before + minimum
        rates.append(rate)
    return rates


@pytest.mark.parametrize(
    ("total", "warmup", "flat"), [(20, 4, 0.5), (20, 11, 0.5), (20, 12, 0.5), (20, 20, 0.25), (12, 0, 0.0), (9, 5, 1.0)]
)
def test_warm_up_and_cosine_are_chained(total: int, warmup: int, flat: float) -> None:
    updater = CosLrUpdater(warmup_len=warmup, warmup_start_factor=0.1, flat_ratio=flat, min_lr_ratio=0.05)
    found = factors(updater, total, more=2)
    expected = chain(total, warmup, 0.1, round(flat * total), 0.05)
    assert found[:total] == pytest.approx(expected, abs=1e-12)
    assert found[total:] == [found[total - 1]] * 2  # after the end nothing changes


def test_a_cosine_by_hand() -> None:
    found = factors(CosLrUpdater(flat_ratio=0.5, min_lr_ratio=0.2), 8)
    assert found == pytest.approx([1, 1, 1, 1, 1] + [0.2 + 0.4 * (1 + math.cos(math.pi * i / 4)) for i in (1, 2, 3)])
    by_epoch = factors(CosLrUpdater(warmup_len=0.5, warmup_by="epoch", warmup_start_factor=0.5, flat_ratio=1.0), 16, 8)
    assert by_epoch[:5] == pytest.approx([0.5, 0.5 + 0.5 / 3, 0.5 + 1 / 3, 1, 1])
    share = factors(CosLrUpdater(warmup_len=0.25, warmup_by="fraction", warmup_start_factor=0.5, flat_ratio=1.0), 16)
    assert share == by_epoch
    for ratio in (0.0, 1.0):
        assert CosLrUpdater(flat_ratio=ratio).flat_ratio == ratio
    for ratio in (-0.1, 1.1):
        with pytest.raises(UserError, match="flat_ratio is a share of the training"):
            CosLrUpdater(flat_ratio=ratio)


@pytest.mark.parametrize(
    ("total", "rise", "first", "last"), [(40, 0.3, 25.0, 1e4), (10, 0.5, 10.0, 100.0), (10, 0.95, 4, 8)]
)
def test_one_cycle_is_torchs_for_other_settings(total: int, rise: float, first: float, last: float) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    reference = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=1.0, total_steps=total, cycle_momentum=False, pct_start=rise, div_factor=first,
        final_div_factor=last,
    )  # fmt: skip
    expected = []
    for _ in range(total):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()
    found = factors(OneCycleUpdater(pct_start=rise, div_factor=first, final_div_factor=last), total, more=3)
    assert found[:total] == pytest.approx(expected, abs=1e-12) and found[total:] == [found[total - 1]] * 3


def test_one_cycle_where_nothing_or_everything_rises() -> None:
    start, end = 1 / 25, 1 / 25e4
    assert factors(OneCycleUpdater(pct_start=0.25), 4)[0] == 1.0  # the peak is step 0
    falling = factors(OneCycleUpdater(pct_start=0.0), 4)  # the peak lies one step before the first
    assert falling == pytest.approx([end + (1 - end) / 2 * (1 + math.cos(math.pi * i / 4)) for i in (1, 2, 3, 4)])
    rising = factors(OneCycleUpdater(pct_start=1.0), 3)
    assert rising == pytest.approx([start, (1 + start) / 2, 1])
    for share in (-0.1, 1.1):
        with pytest.raises(UserError, match="pct_start is a share"):
            OneCycleUpdater(pct_start=share)


def test_poly_by_hand() -> None:
    assert factors(PolyLrUpdater(power=1), 4) == [1, 0.75, 0.5, 0.25]
    assert factors(PolyLrUpdater(power=2, min_lr_ratio=0.5), 4, more=2) == [1, 0.78125, 0.625, 0.53125, 0.5, 0.5]
    warm = PolyLrUpdater(power=1, warmup_len=1, warmup_start_factor=0.2)
    assert factors(warm, 6, 2) == pytest.approx([0.2, 0.6, 1, 0.75, 0.5, 0.25])
    assert factors(PolyLrUpdater(power=1, warmup_len=4), 4, more=2) == [0, 0.25, 0.5, 0.75, 1, 0]


def test_steps_by_hand() -> None:
    found = factors(StepDecayLrUpdater(lr_decay_id=[3, 1], lr_decay_factor=0.5), 8, 2)
    assert found == [1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25]
    warm = StepDecayLrUpdater(warmup_len=3, warmup_by="step", warmup_start_factor=0.4, lr_decay_id=[1])
    assert factors(warm, 4, 2) == pytest.approx([0.4, 0.6, 0.08, 0.1])


def test_limits_of_warm_ups() -> None:
    for start in (0.0, 1.0):
        assert PolyLrUpdater(warmup_len=0, warmup_start_factor=start).start == start
    for start in (-0.1, 1.1):
        with pytest.raises(UserError, match="warmup_start_factor is"):
            PolyLrUpdater(warmup_len=1, warmup_start_factor=start)


def test_the_rate_is_logged_where_it_is_wanted(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="hatdet")
    toy.trainer(callbacks=[StepDecayLrUpdater(lr_decay_id=[1], step_log_interval=3)], num_epochs=2).fit()
    rates = [record.getMessage() for record in caplog.records if "learning rate" in record.getMessage()]
    assert [line.split()[1].rstrip(":,") for line in rates] == ["0", "3", "6", "9"]
    assert [line.rstrip().endswith("0.001") for line in rates] == [False, False, True, True]


@pytest.mark.parametrize(("steps", "told"), [(4, 0), (5, 1)])
def test_a_warm_up_longer_than_the_training_is_told(caplog: pytest.LogCaptureFixture, steps: int, told: int) -> None:
    """A training of 4 steps; a warm-up of 5 ends at 0.5 + 0.5 * 3 / 5."""
    caplog.set_level(logging.WARNING, logger="hatdet")
    updater = StepDecayLrUpdater(warmup_len=steps, warmup_by="step", warmup_start_factor=0.5)
    toy.trainer(callbacks=[updater], num_steps=4).fit()
    lines = [record.getMessage() for record in caplog.records if "is longer than the training" in record.getMessage()]
    assert len(lines) == told
    assert (
        not told
        or "warm-up of 5 steps is longer than the training of 4: the learning rate never gets above 0.8 " in lines[0]
    )


# ---------------------------------------------------------------------------------- the weights' average
def test_rates_of_the_average() -> None:
    ema = ExponentialMovingAverage(momentum=0.1, gamma=2.0)
    assert [ema.rate(t) for t in (0, 1, 5)] == pytest.approx([0.9 * math.exp(-(1 + t) / 2) + 0.1 for t in (0, 1, 5)])
    with pytest.raises(UserError, match="between 0 and 1; got 0"):
        ExponentialMovingAverage(momentum=0.0)
    for gamma in (0.0, -1.0):
        with pytest.raises(UserError, match="above 0, or None"):
            ExponentialMovingAverage(gamma=gamma)
    assert ExponentialMovingAverage(gamma=0.5).gamma == 0.5


class Holder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))
        self.register_buffer("running", torch.zeros(2))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("temporary", torch.zeros(2), persistent=False)


def test_what_is_averaged() -> None:
    inner = Holder()
    model = nn.Sequential(inner, nn.ReLU(), inner)
    assert list(averaged_tensors(model, True)) == ["0.weight", "0.running"]
    assert list(averaged_tensors(model, False)) == ["0.weight"]
    inner.ema_copy_buffers = True
    assert list(averaged_tensors(model, True)) == ["0.weight"]
    assert list(averaged_tensors(inner, False)) == ["weight"]


def test_an_average_over_four_updates_by_hand() -> None:
    """m(t) = 0.75 * exp(-(1 + t) / 4) + 0.25; the first update copies."""
    ema, model = ExponentialMovingAverage(momentum=0.25, gamma=4.0), Holder()
    expected = 0.0
    assert ema.averages() == {} and ema.updates == 0
    for t, value in enumerate((8.0, 4.0, 16.0, 0.0)):
        model.weight.data.fill_(value)
        model.running.fill_(2 * value)
        ema.update(model)
        rate = 1.0 if t == 0 else 0.75 * math.exp(-(1 + t) / 4) + 0.25
        expected = (1 - rate) * expected + rate * value
        assert ema.averages()["weight"].tolist() == pytest.approx([expected] * 2)
        assert ema.averages()["running"].tolist() == pytest.approx([2 * expected] * 2)
        assert ema.updates == t + 1 == ema.state_dict()["updates"]


def test_a_tensor_that_finds_its_shape_later_is_copied() -> None:
    ema, model = ExponentialMovingAverage(momentum=0.5, gamma=None), Holder()
    ema.update(model)
    model.running.resize_(3).fill_(6.0)
    model.weight.data.fill_(4.0)
    ema.update(model)
    assert ema.averages()["running"].tolist() == [6, 6, 6] and ema.averages()["weight"].tolist() == [2, 2]


def test_only_batches_that_changed_the_weights_count() -> None:
    ema, model = ExponentialMovingAverage(), Holder()
    for updated, count in ((False, 0), (True, 1), (False, 1), (True, 2)):
        ema.on_batch_end(SimpleNamespace(updated=updated, model=model))  # type: ignore[arg-type]
        assert ema.updates == count


def test_the_average_is_evaluated_once_there_is_one() -> None:
    ema, model = ExponentialMovingAverage(momentum=0.5, gamma=None), Holder()
    with ema.evaluation_weights(None) as swapped:  # type: ignore[arg-type]
        assert swapped is False
    ema.update(model)
    model.weight.data.fill_(4.0)
    ema.update(model)
    with ema.evaluation_weights(None) as swapped:  # type: ignore[arg-type]
        assert swapped is True and model.weight.tolist() == [2, 2]
    assert model.weight.tolist() == [4, 4]


def test_an_average_goes_on_from_a_checkpoint() -> None:
    ema, model = ExponentialMovingAverage(momentum=0.5, gamma=None), Holder()
    saved = {"state_dict": {"weight": torch.full((2,), 8.0), "running": torch.full((3,), 2.0)}}
    ema.on_resume(SimpleNamespace(model=model), saved)  # type: ignore[arg-type]
    assert ema.averages() == {}  # it had not begun
    ema.load_state_dict({"updates": 3})
    ema.on_resume(SimpleNamespace(model=model), saved)  # type: ignore[arg-type]
    assert ema.averages()["weight"].tolist() == [8, 8] and ema.averages()["running"].tolist() == [2, 2, 2]
    ema.update(model)
    assert ema.averages()["weight"].tolist() == [4, 4] and ema.updates == 4


# -------------------------------------------------------------------------------------------- checkpoints
def names(folder: Path) -> list[str]:
    return sorted(name.removeprefix("float-checkpoint-").removesuffix(".pth.tar") for name in os.listdir(folder))


def test_limits_of_checkpoints(tmp_path: Path) -> None:
    for settings, text in (
        ({"save_interval": 0}, "save_interval is 0; it must be at least 1"),
        ({"save_last_every_steps": 0}, "save_last_every_steps is 0; it must be at least 1"),
        ({"keep": -1}, "keep is -1; it is a number of files"),
    ):
        with pytest.raises(UserError, match=text):
            Checkpoint(save_dir=tmp_path, **settings)  # type: ignore[arg-type]
    Checkpoint(save_dir=tmp_path, save_interval=1, save_last_every_steps=1, keep=0)
    assert Checkpoint(save_dir=tmp_path, name_prefix="qat-").best_path == tmp_path / "qat-checkpoint-best.pth.tar"


@pytest.mark.parametrize(
    ("keep", "interval", "expected"),
    [(1, 1, [5]), (2, 1, [4, 5]), (None, 2, [2, 4, 5]), (3, 2, [2, 4, 5]), (2, 2, [4, 5]), (0, 1, []), (9, 5, [5])],
)
def test_numbered_files(tmp_path: Path, keep: int | None, interval: int, expected: list[int]) -> None:
    toy.trainer(callbacks=[Checkpoint(save_dir=tmp_path, keep=keep, save_interval=interval)], num_epochs=5).fit()
    assert names(tmp_path) == ["best", *(f"epoch-{n:04d}" for n in expected), "last"]


class Saves(Checkpoint):
    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.saved: list[tuple[int, int]] = []

    def save(self, loop: Any, also: list[Path]) -> None:
        self.saved.append((loop.progress.step, len(also)))
        super().save(loop, also)


@pytest.mark.parametrize(
    ("every", "steps"), [(None, [5, 10]), (1, [*range(1, 11)]), (2, [2, 4, 5, 6, 8, 10]), (5, [5, 10]), (20, [5, 10])]
)
def test_the_last_file_is_written_inside_epochs_too(tmp_path: Path, every: int | None, steps: list[int]) -> None:
    """Five steps an epoch; at its end it is written once, whatever the steps say."""
    saves = Saves(save_dir=tmp_path, save_last_every_steps=every, keep=0)
    toy.trainer(callbacks=[saves], num_epochs=2).fit()
    assert [step for step, _ in saves.saved] == steps
    assert [step for step, also in saves.saved if also] == [10]  # best: the last epoch, as nothing is validated


def test_what_a_killed_run_left_is_removed_and_an_earlier_one_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="hatdet")
    for name in (".float-checkpoint-last.pth.tar.1.tmp", ".qat-checkpoint-last.pth.tar.1.tmp"):
        (tmp_path / name).touch()
    toy.trainer(callbacks=[Checkpoint(save_dir=tmp_path, keep=0)], num_epochs=1).fit()
    assert "is of an earlier run" not in caplog.text
    assert sorted(path.name for path in tmp_path.glob(".*")) == [".qat-checkpoint-last.pth.tar.1.tmp"]
    toy.trainer(callbacks=[Checkpoint(save_dir=tmp_path, keep=0)], num_epochs=1).fit()
    assert f"{tmp_path / 'float-checkpoint-last.pth.tar'} is of an earlier run and will be replaced" in caplog.text


# ---------------------------------------------------------------------------------------------- resuming
def test_the_pace_of_a_loader() -> None:
    assert Pace.of(toy.loader(20, 4), 5) == Pace(5, 4, 1, 20, 1)
    assert Pace.of(toy.loader(20, 4), 5, accumulation=2) == Pace(5, 4, 1, 20, 2)
    endless = SimpleNamespace(dataset=iter(()), batch_size=None)
    assert Pace.of(endless, 7) == Pace(7, 1, 1, None, 1)
    assert Pace.of(SimpleNamespace(), 7) == Pace(7, 1, 1, None, 1)


def test_the_pace_of_a_checkpoint_without_one_follows_from_its_counts() -> None:
    def saved(epoch: int, step: int, in_epoch: int, samples: int) -> Pace:
        return Pace.saved({"progress": dict(epoch=epoch, step=step, step_in_epoch=in_epoch, samples=samples)})

    assert saved(2, 23, 3, 91) == Pace(10, 4, None, None)  # 20 steps in 2 epochs; 91 / 23 rounded up
    assert saved(2, 24, 3, 96) == Pace(None, 4, None, None)  # 21 steps are no two epochs
    assert saved(0, 3, 3, 9) == Pace(None, 3, None, None)
    assert saved(0, 0, 0, 0) == Pace(None, None, None, None)
    assert Pace.saved({"pace": {"batch_size": 3, "steps_per_epoch": 2}}) == Pace(2, 3, None, None)
    assert Pace(2, 3, None, None).state_dict() == {"steps_per_epoch": 2, "batch_size": 3}


def test_where_a_resumed_run_stands() -> None:
    old = Pace(steps_per_epoch=10, batch_size=4, processes=1, images=40, accumulation=1)
    saved = Progress(epoch=3, step=37, step_in_epoch=7, samples=148)

    def now(*pace: Any, old: Pace = old, saved: Progress = saved) -> tuple[int, int, int]:
        progress = position(saved, old, Pace(*pace))
        return progress.epoch, progress.step, progress.step_in_epoch

    assert now(10, 4, 1, 40, 1) == (3, 37, 7)
    assert now(5, 8, 1, 40, 1) == (3, 18, 3)  # 28 images are 3 steps of 8
    assert now(4, 10, 1, 40, 1) == (3, 14, 2)
    assert now(5, 4, 2, 40, 1) == (3, 18, 3)
    assert now(20, 2, 1, 40, 1) == (3, 74, 14)
    assert now(20, 2, 1, 40, 4) == (3, 72, 12)  # down to an update of four steps
    assert now(10, 4, 1, 40, 2) == (3, 36, 6)
    assert now(11, 4, 1, 44, 1) == (3, 33, 0)  # other data: the epoch begins anew
    assert now(7, 4, 1, 40, 1) == (4, 28, 0)  # its seven steps are an epoch now
    assert now(8, 4, 1, 40, 1) == (3, 31, 7)
    whole = Progress(epoch=3, step=30, step_in_epoch=0, samples=120)
    assert now(5, 8, 1, 40, 1, saved=whole) == (3, 15, 0)
    unknown = Pace(10, None, None, None)
    assert now(5, 4, 1, 40, 1, old=unknown) == (4, 20, 0) and now(10, 4, 1, 40, 3, old=unknown) == (3, 37, 7)
    assert saved == Progress(epoch=3, step=37, step_in_epoch=7, samples=148)


def test_what_changed_is_said_in_one_line() -> None:
    old, new = Pace(10, 4, 1, 40, 1), Pace(5, 8, 1, 40, 1)
    saved = Progress(epoch=3, step=37, step_in_epoch=7, samples=148)
    assert changes(old, new) == ["steps_per_epoch", "batch_size"]
    assert changes(Pace(10, None, 1, 40, 1), new) == ["steps_per_epoch"] and changes(old, old) == []
    line = describe(saved, position(saved, old, new), old, new)
    assert line == (
        "steps an epoch 10 -> 5, batch_size 4 -> 8: epoch 4 goes on after image 24 of the 28 it has seen, "
        "4 of them once more"
    )
    even = Progress(epoch=3, step=36, step_in_epoch=6, samples=144)
    assert describe(even, position(even, old, new), old, new).endswith("goes on after image 24 of the 24 it has seen")
    few = Progress(epoch=3, step=31, step_in_epoch=1, samples=124)
    assert describe(few, position(few, old, new), old, new).endswith("goes on after image 0 of the 4 it has seen")
    more = Pace(11, 4, 1, 44, 1)
    assert describe(saved, position(saved, old, more), old, more) == (
        "steps an epoch 10 -> 11, images 40 -> 44: epoch 4 was under way and begins anew, its order of images is "
        "another one"
    )
    whole = Progress(epoch=3, step=30, step_in_epoch=0, samples=120)
    assert describe(whole, position(whole, old, new), old, new) == "steps an epoch 10 -> 5, batch_size 4 -> 8"
    assert describe(saved, saved, old, old) == ""
    reckoned = Pace(None, 4, None, None)
    assert describe(whole, whole, reckoned, Pace(10, 8, 1, 40, 1)) == ""  # only reckoned, and nothing moved


def test_the_rate_of_a_checkpoint_is_restored() -> None:
    optimizer = torch.optim.SGD([{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (0.1, 0.2)])
    resume.restore_rates(optimizer, {"scheduler": {"lr": [0.3, 0.4]}})
    assert [group["lr"] for group in optimizer.param_groups] == [0.3, 0.4]


def test_what_differs_between_two_settings() -> None:
    a, b = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    groups = [
        {"params": [a], "initial_lr": 0.1, "betas": [0.9, 0.99]},
        {"params": [b], "initial_lr": 0.2, "betas": (0.9, 0.99)},
    ]
    named = resume._settings(groups, ["z", "y"])
    assert named == {"lr": [0.2, 0.1], "betas": [(0.9, 0.99)] * 2}  # in the order of the names
    assert resume._settings(groups, None) == {"lr": [0.1, 0.2], "betas": [(0.9, 0.99)] * 2}
    assert resume._differences(named, {"lr": [0.2, 0.3], "eps": [1]}) == ["lr 0.1 -> 0.3"]
    assert resume._differences(named, {"lr": [0.3, 0.3], "betas": [(0.9, 0.999)] * 2}) == [
        "betas (0.9, 0.99) -> (0.9, 0.999)", "lr 0.1 -> 0.3", "lr 0.2 -> 0.3",
    ]  # fmt: skip
    one = [{"params": [a, b], "lr": 1, "initial_lr": 0.25}]
    assert resume._settings(one, ["n", "m"]) == {"lr": [0.25, 0.25]}
    assert resume._number(0.1234567) == "0.123457" and resume._number(3) == "3"


def test_a_checkpoint_of_weights_alone_is_not_resumed(tmp_path: Path) -> None:
    toy.trainer(callbacks=[Checkpoint(save_dir=tmp_path, keep=0)], num_epochs=1).fit()
    state = load_checkpoint(tmp_path / "float-checkpoint-last.pth.tar")
    resume.check_resumable(state, "x")
    for key in ("state_dict", "progress", "rng", "callbacks", "metrics", "batch_processor", "optimizer", "scheduler"):
        less = {name: value for name, value in state.items() if name != key}
        what = "weights only" if key == "progress" else "no training's state"
        with pytest.raises(UserError, match=f"x has {what} \\(no '{key}'\\)"):
            resume.check_resumable(less, "x")
        if key in ("optimizer", "scheduler"):
            resume.check_resumable(less, "x", optimized=False)
