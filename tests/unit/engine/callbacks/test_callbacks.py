from __future__ import annotations

import csv
import math
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hatdet.engine.batch_processors import BasicBatchProcessor
from hatdet.engine.callbacks.base import Callback
from hatdet.engine.callbacks.checkpoint import Checkpoint
from hatdet.engine.callbacks.early_stop import EarlyStop
from hatdet.engine.callbacks.ema import ExponentialMovingAverage
from hatdet.engine.callbacks.freeze import FreezeModule, FreezeObservers
from hatdet.engine.callbacks.grad import GradClip, GradScale, OscillationDamping
from hatdet.engine.callbacks.loss_show import LossShow
from hatdet.engine.callbacks.metric_updater import MetricUpdater
from hatdet.engine.callbacks.nan_guard import NanGuard, TrainingDiverged
from hatdet.engine.callbacks.pipeline_switch import PipelineSwitch
from hatdet.engine.callbacks.results_csv import ResultsCsv
from hatdet.engine.callbacks.stats_monitor import StatsMonitor
from hatdet.engine.callbacks.tensorboard import TensorBoard
from hatdet.engine.callbacks.validation import Validation
from hatdet.utils.checkpoints.checkpoint import load_checkpoint
from hatdet.utils.errors import UserError
from hatdet.utils.finite import NotFinite, not_finite
from tests.unit.engine import toy


class Scripted:
    """A metric that gives the next of some numbers at each validation."""

    def __init__(self, *values: float) -> None:
        self.values, self.calls = values, 0

    def reset(self) -> None: ...

    def update(self, predictions: Any, batch: Any) -> None: ...

    def compute(self) -> dict[str, float]:
        self.calls += 1
        return {"AP": self.values[self.calls - 1]}

    def format(self, values: dict[str, float]) -> str:
        return f"AP {values['AP']}"


def scripted(tmp_path: Path, *values: float, callbacks: Any = (), **settings: Any) -> Any:
    return toy.trainer(
        val_data_loader=toy.loader(4, 4),
        val_metrics=Scripted(*values),
        num_epochs=len(values),
        callbacks=[Checkpoint(save_dir=tmp_path, **settings), Validation(), *callbacks],
    )


def epoch_of(path: Path) -> int:
    return int(load_checkpoint(path)["progress"]["epoch"])


def test_checkpoint_names_best_and_keep(tmp_path: Path) -> None:
    """Best is the first of the two 0.5; a tie is no improvement. Checkpoint stands first in the list, yet runs last."""
    scripted(tmp_path, 0.1, 0.5, 0.5, 0.2, keep=2, name_prefix="qat-").fit()
    assert sorted(os.listdir(tmp_path)) == [
        "qat-checkpoint-best.pth.tar",
        "qat-checkpoint-epoch-0003.pth.tar",
        "qat-checkpoint-epoch-0004.pth.tar",
        "qat-checkpoint-last.pth.tar",
    ]
    assert epoch_of(tmp_path / "qat-checkpoint-best.pth.tar") == 2
    assert epoch_of(tmp_path / "qat-checkpoint-last.pth.tar") == 4
    assert load_checkpoint(tmp_path / "qat-checkpoint-best.pth.tar")["metrics"] == {"AP": 0.5}


def test_checkpoint_mode_min_interval_and_none_kept(tmp_path: Path) -> None:
    scripted(tmp_path, 0.3, 0.1, 0.2, mode="min", keep=None, save_interval=2).fit()
    assert epoch_of(tmp_path / "float-checkpoint-best.pth.tar") == 2
    numbered = [n for n in sorted(os.listdir(tmp_path)) if "epoch" in n]
    assert numbered == [f"float-checkpoint-epoch-000{k}.pth.tar" for k in (2, 3)], "every second, and the last"


def test_checkpoint_without_validation_takes_the_last_epoch_as_best(tmp_path: Path) -> None:
    toy.trainer(callbacks=[Checkpoint(save_dir=tmp_path, keep=0)], num_epochs=3).fit()
    assert sorted(os.listdir(tmp_path)) == ["float-checkpoint-best.pth.tar", "float-checkpoint-last.pth.tar"]
    assert epoch_of(tmp_path / "float-checkpoint-best.pth.tar") == 3


def test_checkpoint_holds_what_the_contract_says(tmp_path: Path) -> None:
    scripted(tmp_path, 0.1).fit()
    state = load_checkpoint(tmp_path / "float-checkpoint-last.pth.tar")
    wanted = {"state_dict", "optimizer", "scheduler", "rng", "progress", "callbacks", "config", "versions", "metrics"}
    assert wanted | {"metadata"} <= set(state) and "raw_state_dict" not in state
    assert state["progress"] == {"epoch": 1, "step": 5, "step_in_epoch": 0, "samples": 20}
    assert state["metadata"] == {"classes": ["dark", "light"], "category_ids": [3, 7]}
    assert state["versions"]["torch"] == torch.__version__


def test_a_monitored_value_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'mAP' is not among what the validation gives: AP"):
        scripted(tmp_path, 0.1, monitor_metric_key="mAP").fit()


def test_validation_intervals(tmp_path: Path) -> None:
    def validated(**settings: Any) -> list[int]:
        metric, epochs = toy.ToyMetric(), []

        class Notes(Callback):
            def on_scalars(self, loop: Any, scalars: Any) -> None:
                epochs.append(loop.progress.step)

        toy.trainer(
            val_data_loader=toy.loader(4, 4),
            val_metrics=metric,
            num_epochs=7,
            callbacks=[Validation(**settings), Notes()],
        ).fit()
        return epochs

    assert validated(val_interval=3) == [15, 30, 35]  # 5 steps an epoch; the last epoch always
    assert validated(val_interval=10, num_last_epochs=2) == [30, 35]
    assert validated(val_interval=12, interval_by="step") == [12, 24, 35]
    assert validated(val_interval=10, val_on_train_begin=True) == [0, 35]
    assert validated(val_interval=2, val_begin=4) == [20, 30, 35]
    assert validated(val_interval=4, dynamic_intervals=[(5, 1)]) == [20, 25, 30, 35]
    assert validated(val_interval=12, interval_by="step", val_begin=20, dynamic_intervals=[(30, 3)]) == [24, 30, 33, 35]
    with pytest.raises(UserError, match="Validation has no data_loader"):
        toy.trainer(callbacks=[Validation()]).fit()


def test_ground_truth_that_is_missing_is_said_before_the_first_step() -> None:
    class NoTruth(toy.ToyMetric):
        def bind(self, dataset: object) -> None:
            raise UserError("annotation file not found")

    trainer = toy.trainer(val_data_loader=toy.loader(), val_metrics=NoTruth(), callbacks=[Validation()])
    with pytest.raises(UserError, match="annotation file not found"):
        trainer.fit()
    assert trainer.progress.step == 0


def test_validation_leaves_training_as_it_was(tmp_path: Path) -> None:
    """The same weights with and without a validation in each step: modes, generators and weights are put back."""
    plain, validated = (
        toy.trainer(),
        toy.trainer(
            val_data_loader=toy.loader(4, 4),
            val_metrics=toy.ToyMetric(),
            callbacks=[Validation(val_interval=1, interval_by="step")],
        ),
    )
    plain.fit()
    validated.fit()
    for a, b in zip(plain.model.state_dict().values(), validated.model.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_validation_scores_the_evaluation_model() -> None:
    class Always(nn.Module):
        def forward(self, batch: Any) -> Any:
            return [{"score": truth * 2 - 1} for truth in batch["gt"]]

    class Model(toy.ToyModel):
        def evaluation_model(self) -> nn.Module:
            return Always()

    run = toy.trainer(
        model=Model(), val_data_loader=toy.loader(), val_metrics=toy.ToyMetric(), callbacks=[Validation()], num_epochs=1
    )
    assert run.fit()["AP"] == 1.0


def test_early_stop(tmp_path: Path) -> None:
    run = scripted(tmp_path, 0.1, 0.5, 0.4, 0.5, 0.9, callbacks=[EarlyStop(patience=2)])
    run.fit()
    assert run.progress.epoch == 4 and "no improvement on AP 0.5000 in the last 2 validations" in run.stop_reason
    again = scripted(tmp_path, 0.1, 0.5, 0.4, 0.5, 0.9, callbacks=[EarlyStop(patience=2)])
    again.fit(resume=True)
    assert again.progress.epoch == 4  # still stopped


class Poison(nn.Module):
    """A model whose loss is NaN in the given calls."""

    def __init__(self, *calls: int) -> None:
        super().__init__()
        self.inner, self.calls, self.count = toy.model(), calls, 0

    def forward(self, batch: Any) -> Any:
        self.count += 1
        if self.count in self.calls:
            batch = {**batch, "img": batch["img"] * float("nan")}
        return self.inner(batch)


def test_nan_guard_leaves_out_single_steps() -> None:
    guard = NanGuard(max_bad_steps=3)
    run = toy.trainer(model=Poison(2, 3), callbacks=[guard], num_epochs=1)
    seen: list[Tensor] = []
    original = run.model.inner.forward

    def watch(batch: Any) -> Any:
        seen.append(torch.cat([v.detach().double().flatten() for v in run.model.state_dict().values()][:2]))
        return original(batch)

    run.model.inner.forward = watch
    run.fit()
    assert (guard.skipped, guard.in_a_row, run.progress.step) == (2, 0, 5)
    assert torch.equal(seen[1], seen[2]) and torch.equal(seen[2], seen[3])  # calls 2, 3 changed nothing
    assert not torch.equal(seen[3], seen[4])
    assert all(torch.isfinite(v).all() for v in run.model.state_dict().values())  # running statistics too


def test_nan_guard_ends_a_diverged_training() -> None:
    with pytest.raises(TrainingDiverged, match="the loss or the gradients of 2 steps in a row are not finite"):
        toy.trainer(model=Poison(*range(2, 50)), callbacks=[NanGuard(max_bad_steps=2)]).fit()


def test_gradient_clipping_and_scaling() -> None:
    norms = []

    class Norm(Callback):
        def on_optimizer_step_begin(self, loop: Any) -> None:
            gradients = [p.grad for p in loop.model.parameters()]
            norms.append((float(nn.utils.get_total_norm(gradients)), float(loop.model.fc.weight.grad.norm())))

    plain = toy.trainer(callbacks=[Norm()], num_steps=1)
    plain.fit()
    toy.trainer(callbacks=[GradClip(max_norm=0.01), Norm()], num_steps=1).fit()
    toy.trainer(callbacks=[GradScale(module_and_scale={"fc": 0.25}), Norm()], num_steps=1).fit()
    assert norms[1][0] == pytest.approx(0.01, rel=1e-4)
    assert norms[2][1] == pytest.approx(norms[0][1] * 0.25, rel=1e-5)
    with pytest.raises(UserError, match="no module 'head'; at 'head' there are conv, bn"):
        toy.trainer(callbacks=[GradScale(module_and_scale={"head": 0.1})]).fit()


def test_freeze_module() -> None:
    run = toy.trainer(callbacks=[FreezeModule(modules=["conv", "bn"], epoch=1)], num_epochs=2)
    first: dict[str, Tensor] = {}

    class Keep(Callback):
        def on_epoch_end(self, loop: Any) -> None:
            if loop.progress.epoch == 0:
                first.update({k: v.clone() for k, v in loop.model.state_dict().items()})

    run.add_callback(Keep())
    run.fit()
    last = run.model.state_dict()
    changed = {name for name in last if not torch.equal(first[name], last[name])}
    assert changed == {"fc.weight", "fc.bias"}
    assert not torch.equal(first["conv.weight"], toy.model().conv.weight)  # epoch 0 still trained it


class Observed(toy.ToyModel):
    """Notes when observers and quantization are switched."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[tuple[str, bool]] = []

    def set_observing(self, on: bool) -> None:
        self.log.append(("observing", on))

    def set_quantizing(self, on: bool) -> None:
        self.log.append(("quantizing", on))


def test_freeze_observers_at_a_third() -> None:
    model, at = Observed(), []

    class When(Callback):
        def on_batch_begin(self, loop: Any) -> None:
            at.append(loop.model.log[-1][1])

    toy.trainer(model=model, callbacks=[FreezeObservers(), When()], num_steps=9).fit()
    assert at == [True] * 3 + [False] * 6 and len(model.log) == 2
    with pytest.raises(UserError, match="needs a quantized model; this is a ToyModel"):
        toy.trainer(callbacks=[FreezeObservers()]).fit()


def test_pipeline_switch() -> None:
    run, seen = toy.trainer(callbacks=[PipelineSwitch(num_last_epochs=2)], num_epochs=5), []

    class Look(Callback):
        def on_epoch_end(self, loop: Any) -> None:
            seen.append(loop.data_loader.sampler.pipeline)

    run.add_callback(Look())
    run.fit()
    assert seen == [0, 0, 0, 1, 1]
    plain = torch.utils.data.DataLoader(toy.ToyData(), 4)
    with pytest.raises(UserError, match="the loader has a SequentialSampler"):
        toy.trainer(callbacks=[PipelineSwitch(num_last_epochs=2)], data_loader=plain).fit()


def test_epoch_means_of_the_losses_are_right() -> None:
    values: list[float] = []
    show = LossShow()

    class Collect(Callback):
        def on_step_end(self, loop: Any) -> None:
            values.append(float(loop.losses["loss_cls"]))

    toy.trainer(train_metrics=show, callbacks=[MetricUpdater(), Collect()], num_epochs=1).fit()
    assert show.compute()["loss_cls"] == pytest.approx(sum(values) / 5, rel=1e-5)
    with pytest.raises(UserError, match="train_metrics"):
        toy.trainer(callbacks=[MetricUpdater()]).fit()


def test_results_csv_and_its_resume(tmp_path: Path) -> None:
    def rows(path: Path) -> list[dict[str, str]]:
        with path.open(newline="") as file:
            return list(csv.DictReader(file))

    def run(folder: Path, *extra: Callback) -> Any:
        made = scripted(folder, 0.1, 0.2, 0.3, callbacks=[StatsMonitor(), ResultsCsv(path=folder / "r.csv"), *extra])
        return made

    class Stop(Callback):
        def on_step_end(self, loop: Any) -> None:
            if loop.progress.step == 12:
                raise KeyboardInterrupt

    run(tmp_path / "a").fit()
    table = rows(tmp_path / "a" / "r.csv")
    assert [row["epoch"] for row in table] == ["1", "2", "3"] and [row["val/AP"] for row in table] == [
        "0.1",
        "0.2",
        "0.3",
    ]
    assert {"step", "train/loss", "train/loss_cls", "train/lr", "train/images_per_second"} <= set(table[0])
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "b", Stop()).fit()
    second = run(tmp_path / "b")
    second.val_metrics.calls = 2
    second.fit(resume=True)
    resumed = rows(tmp_path / "b" / "r.csv")
    keys = ("epoch", "step", "train/loss", "val/AP")
    assert [[row[key] for key in keys] for row in resumed] == [[row[key] for key in keys] for row in table]


def test_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    scripted(tmp_path, 0.25, 0.5, callbacks=[TensorBoard(save_dir=tmp_path / "tb")]).fit()
    events = EventAccumulator(str(tmp_path / "tb"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("val/AP")] == [(5, 0.25), (10, 0.5)]


def test_without_tensorboard_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    toy.trainer(callbacks=[TensorBoard(save_dir=tmp_path)], num_epochs=1).fit()
    assert "TensorBoard is not installed" in caplog.text


@pytest.mark.parametrize(
    ("settings", "accumulate", "best_step"),
    [
        ({"val_interval": 10, "val_on_train_begin": True}, 1, 0),  # the weights before the first step
        ({"val_interval": 1, "interval_by": "step"}, 1, 1),
        ({"val_interval": 5, "interval_by": "step"}, 1, 5),  # falls on the end of the epoch of 5 steps
        ({"val_interval": 1, "interval_by": "step"}, 2, 2),  # in the middle of an accumulation nothing can be saved
    ],
)
def test_best_holds_the_weights_that_were_validated(
    tmp_path: Path, settings: dict[str, Any], accumulate: int, best_step: int
) -> None:
    seen: dict[int, dict[str, Any]] = {}

    class Falling(Scripted):
        """Each validation is worse than the one before, so the first that can be saved is the best."""

        def compute(self) -> dict[str, float]:
            self.calls += 1
            seen[run.progress.step] = {k: v.clone() for k, v in run.model.state_dict().items()}
            return {"AP": 1.0 / self.calls}

    run = toy.trainer(
        val_data_loader=toy.loader(4, 4),
        val_metrics=Falling(),
        batch_processor=BasicBatchProcessor(grad_accumulation_step=accumulate),
        callbacks=[Validation(**settings), Checkpoint(save_dir=tmp_path)],
    )
    run.fit()
    best = load_checkpoint(tmp_path / "float-checkpoint-best.pth.tar")
    assert best["progress"]["step"] == best_step
    assert all(torch.equal(value, seen[best_step][name]) for name, value in best["state_dict"].items())


def test_results_csv_has_a_row_for_a_validation_before_the_first_step(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    metric = Scripted(0.1 + 0.2, 0.5, 0.25)
    toy.trainer(
        val_data_loader=toy.loader(4, 4),
        val_metrics=metric,
        callbacks=[Validation(val_on_train_begin=True), ResultsCsv(path=path)],
    ).fit()
    rows = list(csv.DictReader(path.open(newline="")))
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    assert [row["val/AP"] for row in rows] == ["0.30000000000000004", "0.5", "0.25"]


@pytest.mark.parametrize("nothing", [-1.0, math.nan])
def test_where_nothing_is_measured_the_last_is_the_best(
    tmp_path: Path, nothing: float, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="hatdet")
    run = scripted(tmp_path, nothing, nothing, nothing, callbacks=[EarlyStop(patience=1)])
    run.fit()
    assert run.progress.epoch == 3  # not stopped
    assert epoch_of(tmp_path / "float-checkpoint-best.pth.tar") == 3
    assert "best so far is the last, since AP was not measured" in caplog.text


def test_what_was_not_measured_is_no_value(tmp_path: Path) -> None:
    """0.1 is better than not measured; a -1 behind it changes nothing; a row of results.csv has an empty cell."""
    run = scripted(tmp_path, -1.0, 0.1, -1.0, callbacks=[EarlyStop(patience=2), ResultsCsv(path=tmp_path / "r.csv")])
    run.fit()
    assert epoch_of(tmp_path / "float-checkpoint-best.pth.tar") == 2
    rows = list(csv.DictReader((tmp_path / "r.csv").open()))
    assert [row["val/AP"] for row in rows] == ["", "0.1", ""]


def test_minus_one_of_an_earlier_version_is_no_best(tmp_path: Path) -> None:
    callback = Checkpoint(save_dir=tmp_path)
    callback.load_state_dict({"monitor": {"best": -1.0, "seen_at": 5}, "numbered": []})
    assert callback.monitor is not None and callback.monitor.best is None
    lower = Checkpoint(save_dir=tmp_path, mode="min")
    lower.load_state_dict({"monitor": {"best": -1.0, "seen_at": 5}, "numbered": []})
    assert lower.monitor is not None and lower.monitor.best == -1.0


class Spoil(Callback):
    """Overwrites one value of the model after a step, or of the averages."""

    def __init__(self, step: int, name: str, value: float = float("nan")) -> None:
        self.step, self.name, self.value = step, name, value

    @torch.no_grad()
    def on_step_end(self, loop: Any) -> None:
        if loop.progress.step == self.step:
            tensor = loop.model.state_dict()[self.name]
            tensor[(0,) * tensor.dim()] = self.value


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("conv.weight", float("nan"), "conv.weight: 1 of 108 values are NaN"),
        ("bn.running_var", float("inf"), "bn.running_var: 1 of 4 values are infinite"),
    ],
)
@pytest.mark.parametrize("averaged", [False, True])
def test_weights_that_are_not_finite_are_never_saved(
    tmp_path: Path, name: str, value: float, text: str, averaged: bool
) -> None:
    """The files of the epoch before stay, and training ends with an error that names what and where."""
    spoil = Spoil(10, name, value)  # the last of the second epoch
    callbacks: list[Callback] = [spoil, Checkpoint(save_dir=tmp_path, name_prefix="float", monitor_metric_key=None)]
    if averaged:
        callbacks.insert(0, ExponentialMovingAverage(momentum=0.5, gamma=None))
    run = toy.trainer(callbacks=callbacks, num_epochs=3)
    with pytest.raises(NotFinite, match=rf"of float are not finite: {text}") as caught:
        run.fit()
    assert "\n" not in str(caught.value) and "stays as it was" in str(caught.value)
    saved = load_checkpoint(tmp_path / "float-checkpoint-last.pth.tar")
    assert saved["progress"]["epoch"] == 1 and not not_finite(saved["state_dict"])


def test_a_training_without_one_finite_loss_fails_however_short(tmp_path: Path) -> None:
    """Fewer steps than max_bad_steps: every one was left out, and that is no success."""

    class Bad(Callback):
        @torch.no_grad()
        def on_batch_begin(self, loop: Any) -> None:
            loop.model.fc.bias.fill_(float("nan"))

        def on_loop_end(self, loop: Any) -> None:
            loop.model.fc.bias.data.zero_()

    run = toy.trainer(callbacks=[Bad(), NanGuard(max_bad_steps=1000)], num_epochs=1)
    with pytest.raises(TrainingDiverged, match=r"steps in a row are not finite \(loss_cls nan"):
        run.fit()


def test_gradients_too_large_in_every_step_are_said(caplog: pytest.LogCaptureFixture) -> None:
    """The losses are finite and so are the weights, which are those of the start: that is said, and no failure."""

    class Huge(Callback):
        def on_optimizer_step_begin(self, loop: Any) -> None:
            for parameter in loop.model.parameters():
                parameter.grad.fill_(3e38)

    run = toy.trainer(callbacks=[Huge(), NanGuard(max_bad_steps=1000)], num_epochs=1)
    before = {name: value.clone() for name, value in run.model.named_parameters()}
    with caplog.at_level("WARNING", "hatdet"):
        run.fit()
    assert all(torch.equal(value, before[name]) for name, value in run.model.named_parameters())
    assert "no step was taken: the gradients were too large in all" in caplog.text


def test_damping_pulls_weights_to_their_codes_more_and_more() -> None:
    """A weight of 2.4 steps is pulled down to 2, one of 3.5 half a step up: at the end by 0.8 and 1 times what the
    layer learns with."""

    class Quantized(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.tensor([0.24, 0.35, 0.1]))

        def rounded_weights(self) -> Any:
            yield self.weight, torch.tensor([0.2, 0.4, 0.1]), torch.tensor(0.1)

    model = Quantized()
    loop = SimpleNamespace(model=model, progress=SimpleNamespace(step=0), total_steps=11)
    damping = OscillationDamping(strength=0.5)
    damping.on_loop_begin(loop)  # type: ignore[arg-type]
    found = []
    for step in (0, 5, 10):
        loop.progress.step = step
        model.weight.grad = torch.tensor([3.0, -4.0, 0.0])  # root mean square: 5 / sqrt(3)
        damping.on_optimizer_step_begin(loop)  # type: ignore[arg-type]
        found.append((model.weight.grad - torch.tensor([3.0, -4.0, 0.0])) / (0.5 * 5 / 3**0.5))
    assert found[0].tolist() == [0.0, 0.0, 0.0]
    assert torch.allclose(found[1], torch.tensor([0.4, -0.5, 0.0]), atol=1e-5)
    assert torch.allclose(found[2], torch.tensor([0.8, -1.0, 0.0]), atol=1e-5)


def test_damping_needs_rounded_weights() -> None:
    with pytest.raises(UserError, match="strength of the damping is -1; it must be 0 or above"):
        OscillationDamping(strength=-1)
    with pytest.raises(UserError, match="OscillationDamping needs a quantized model; this is a ToyModel"):
        toy.trainer(callbacks=[OscillationDamping(strength=1.0)], num_steps=1).fit()
