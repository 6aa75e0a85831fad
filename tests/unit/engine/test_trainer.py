from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hatdet.engine.batch_processors import BasicBatchProcessor, sum_losses
from hatdet.engine.callbacks.base import Callback
from hatdet.engine.callbacks.checkpoint import Checkpoint
from hatdet.engine.callbacks.ema import ExponentialMovingAverage
from hatdet.engine.callbacks.nan_guard import NanGuard
from hatdet.engine.callbacks.schedules.cos_lr import CosLrUpdater
from hatdet.engine.callbacks.validation import Validation
from hatdet.utils.checkpoints.checkpoint import load_checkpoint
from hatdet.utils.errors import UserError
from tests.unit.engine import toy


class Recorder(Callback):
    """Writes down every event."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("on_") or name == "close":
            return lambda loop, *rest: self.events.append(name)
        return super().__getattribute__(name)


def test_order_of_events() -> None:
    recorder = Recorder()
    toy.trainer(callbacks=[recorder], data_loader=toy.loader(8, 4), num_epochs=1).fit()
    step = ["on_step_begin", "on_batch_begin", "on_losses", "on_optimizer_step_begin", "on_batch_end", "on_step_end"]
    expected = ["on_loop_begin", "on_epoch_begin", *step, *step, "on_epoch_end", "on_loop_end", "close"]
    assert recorder.events == expected


def test_close_is_called_after_an_error() -> None:
    class Fails(Callback):
        def on_step_end(self, loop: Any) -> None:
            raise RuntimeError("stop")

    recorder = Recorder()
    with pytest.raises(RuntimeError):
        toy.trainer(callbacks=[recorder, Fails()]).fit()
    assert recorder.events[-1] == "close" and "on_loop_end" not in recorder.events


def test_it_learns_and_counts() -> None:
    run = toy.trainer(
        num_epochs=15, val_data_loader=toy.loader(), val_metrics=toy.ToyMetric(), callbacks=[Validation()]
    )
    values = run.fit()
    assert values["AP"] > 0.9
    assert (run.progress.epoch, run.progress.step, run.progress.samples) == (15, 75, 300)


def test_num_steps_ends_inside_an_epoch_and_batch_of_one() -> None:
    run = toy.trainer(num_steps=7, data_loader=toy.loader(5, 1))
    run.fit()
    assert (run.progress.step, run.num_epochs, run.total_steps) == (7, 2, 7)


def test_conversion_comes_before_the_optimizer() -> None:
    class Converted(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner, self.gain = inner, nn.Parameter(torch.ones(()))

        def forward(self, batch: Any) -> Any:
            return {"loss": self.gain * self.inner(batch)["loss_cls"]}

    run = toy.trainer(model_convert_pipeline=Converted)
    run.fit()
    assert any(p is run.model.gain for group in run.optimizer.param_groups for p in group["params"])
    assert float(run.model.gain.detach()) != 1.0


@pytest.mark.parametrize("settings", [{}, {"num_epochs": 2, "num_steps": 3}, {"num_epochs": 0}])
def test_length_is_given_once(settings: dict[str, int]) -> None:
    from hatdet.engine.trainer import Trainer

    with pytest.raises(UserError, match=r"num_epochs|one epoch"):
        Trainer(model=toy.model(), data_loader=toy.loader(), optimizer=toy.factory(), **settings)


def test_the_batch_size_of_the_learning_rate_is_a_number_of_images() -> None:
    with pytest.raises(UserError, match="base_batch_size is 0"):
        toy.trainer(base_batch_size=0)


@pytest.mark.parametrize("device", ["tpu", "cuda:77"])
def test_a_device_that_is_not_there(device: str) -> None:
    with pytest.raises(UserError, match=f"device='{device}' is not available; here are: cpu"):
        toy.trainer(device=device)


def test_classes_of_model_and_data_must_agree() -> None:
    with pytest.raises(UserError, match="predicts 3 classes, but the training data has 2 classes: dark, light"):
        toy.trainer(model=toy.model(num_classes=3)).fit()
    other = toy.loader()
    other.dataset.classes = ("light", "dark")  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=r"dark, light; the validation data has light, dark"):
        toy.trainer(val_data_loader=other).fit()


class KillAt(Callback):
    """Raises in the step that is given, after the step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, loop: Any) -> None:
        if loop.progress.step == self.step:
            raise KeyboardInterrupt


def full_run(directory: Path, *extra: Callback, accumulate: int = 1, sampler_starts: bool = True) -> Any:
    data = toy.loader(11, 3)  # 4 steps an epoch, the last one of 2 images
    if not sampler_starts:
        data = torch.utils.data.DataLoader(toy.ToyData(11), 3, shuffle=True)
    return toy.trainer(
        data_loader=data,
        val_data_loader=toy.loader(7, 4),
        val_metrics=toy.ToyMetric(),
        num_epochs=3,
        batch_processor=BasicBatchProcessor(grad_accumulation_step=accumulate),
        callbacks=[
            *extra,
            CosLrUpdater(warmup_len=3, flat_ratio=0.5, min_lr_ratio=0.05),
            ExponentialMovingAverage(momentum=0.05, gamma=5),
            NanGuard(),
            Validation(val_interval=2),
            Checkpoint(save_dir=directory, save_last_every_steps=1),
        ],
    )


@pytest.mark.parametrize("accumulate, sampler_starts", [(1, True), (3, True), (1, False)])
def test_resuming_after_any_step_gives_identical_weights(tmp_path: Path, accumulate: int, sampler_starts: bool) -> None:
    options = {"accumulate": accumulate, "sampler_starts": sampler_starts}
    whole = full_run(tmp_path / "whole", **options)
    whole.fit()
    expected = load_checkpoint(tmp_path / "whole" / "float-checkpoint-last.pth.tar")
    assert "raw_state_dict" in expected and whole.progress.step == 12
    for step in range(1, 12):
        folder = tmp_path / str(step)
        with pytest.raises(KeyboardInterrupt):
            full_run(folder, KillAt(step), **options).fit()
        torch.manual_seed(step)  # a new process has other generator states
        full_run(folder, **options).fit(resume=True)
        found = load_checkpoint(folder / "float-checkpoint-last.pth.tar")
        for part in ("state_dict", "raw_state_dict"):
            for name, value in expected[part].items():
                assert torch.equal(value, found[part][name]), f"killed after step {step}: {part} {name}"
        for index, state in expected["optimizer"]["state"].items():
            assert torch.equal(state["exp_avg_sq"], found["optimizer"]["state"][index]["exp_avg_sq"])
        assert found["metrics"] == expected["metrics"] and found["callbacks"] == expected["callbacks"]


def test_resume_without_a_checkpoint_starts_afresh(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    full_run(tmp_path).fit(resume=True)
    assert "nothing to resume" in caplog.text


def test_resume_of_a_finished_run_does_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    full_run(tmp_path).fit()
    before = (tmp_path / "float-checkpoint-last.pth.tar").read_bytes()
    full_run(tmp_path).fit(resume=True)
    assert (tmp_path / "float-checkpoint-last.pth.tar").read_bytes() == before
    assert "nothing left to do" in caplog.text


def test_checkpoints_of_another_model_or_kind_are_refused(tmp_path: Path) -> None:
    full_run(tmp_path).fit()
    wide = toy.trainer(model=nn.Sequential(nn.Linear(2, 2)))
    with pytest.raises(UserError, match="does not belong to this config: the weights do not fit the model"):
        wide.setup(tmp_path / "float-checkpoint-last.pth.tar")
    torch.save({"state_dict": toy.model().state_dict()}, tmp_path / "weights.pth")
    with pytest.raises(UserError, match="weights only"):
        toy.trainer().setup(tmp_path / "weights.pth")


def test_accumulated_gradients_are_the_mean_of_the_batches() -> None:
    """SGD on one batch of 4 equals SGD on 4 batches of 1 without batch statistics."""

    class Linear(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3 * 64, 1)
            nn.init.constant_(self.fc.weight, 0.01)
            nn.init.zeros_(self.fc.bias)

        def forward(self, batch: Any) -> Any:
            return {"loss": (self.fc(batch["img"].flatten(1))[:, 0] - batch["gt"]).square().mean()}

    weights = []
    for size, steps in ((4, 1), (1, 4)):
        run = toy.trainer(
            model=Linear(),
            data_loader=toy.loader(8, size),
            num_epochs=1,
            optimizer=toy.factory(type=torch.optim.SGD, lr=0.1, weight_decay=0.0),
            batch_processor=BasicBatchProcessor(grad_accumulation_step=steps),
        )
        run.fit()
        weights.append(run.model.fc.weight.detach())
    assert torch.allclose(weights[0], weights[1], atol=1e-6)


def test_sum_losses() -> None:
    losses = {"loss_a": torch.tensor(1.0), "b_loss": torch.tensor(2.5), "accuracy": torch.tensor(100.0)}
    assert float(sum_losses(losses)) == 3.5
    with pytest.raises(UserError, match="accuracy"):
        sum_losses({"accuracy": torch.tensor(1.0)})


def test_amp_on_the_cpu_is_bfloat16_and_trains() -> None:
    run = toy.trainer(batch_processor=BasicBatchProcessor(enable_amp=True))
    run.fit()
    assert math.isfinite(float(run.loss))
    with pytest.raises(UserError, match="needs a GPU"):
        toy.trainer(batch_processor=BasicBatchProcessor(enable_amp=True, enable_amp_dtype="float16")).fit()


def test_learning_rate_scales_with_the_batch_size() -> None:
    run = toy.trainer(data_loader=toy.loader(20, 5), base_batch_size=20)
    run.setup()
    assert run.optimizer.param_groups[0]["lr"] == pytest.approx(0.01 * 5 / 20)
