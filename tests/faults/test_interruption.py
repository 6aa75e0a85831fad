"""Ctrl-C and SIGTERM at any moment of a training: one line, the right status, and a checkpoint that continues bit for
bit."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from hatdet.data.workers import Loader
from hatdet.engine.batch_processors import BasicBatchProcessor
from hatdet.engine.callbacks.base import Callback
from hatdet.engine.callbacks.checkpoint import Checkpoint
from hatdet.engine.callbacks.early_stop import EarlyStop
from hatdet.engine.callbacks.ema import ExponentialMovingAverage
from hatdet.engine.callbacks.results_csv import ResultsCsv
from hatdet.engine.callbacks.schedules.cos_lr import CosLrUpdater
from hatdet.engine.callbacks.stats_monitor import StatsMonitor
from hatdet.engine.callbacks.validation import Validation
from hatdet.utils.checkpoints import checkpoint as checkpoint_module
from hatdet.utils.checkpoints.checkpoint import load_checkpoint
from hatdet.utils.interruption import Interruption, Terminated, exit_status, terminating_like_ctrl_c
from tests.unit.engine import toy


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch waits 5 s before it looks whether a worker is alive."""
    monkeypatch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 0.2)
    monkeypatch.setattr(_MultiProcessingDataLoaderIter._try_get_data, "__defaults__", (0.2,))


LAST = "float-checkpoint-last.pth.tar"
STEPS = 12  # 3 epochs of 4 steps


class SignalAt(Callback):
    """Sends a signal to this process within the given step, at the given event."""

    def __init__(self, step: int, event: str = "on_batch_end", number: int = signal.SIGTERM) -> None:
        self.step, self.number = step, number
        setattr(self, event, self._send)

    def _send(self, loop: Any) -> None:
        if loop.progress.step == self.step:
            self.step = -1
            os.kill(os.getpid(), self.number)


class SignalInValidation(toy.ToyMetric):
    """Sends SIGTERM in the first batch of validation number ``turn`` (from 1); the batches after it must not come."""

    def __init__(self, turn: int) -> None:
        super().__init__()
        self.turn = turn

    def reset(self) -> None:
        super().reset()
        self.turn = getattr(self, "turn", 0) - 1

    def update(self, predictions: Any, batch: Any) -> None:
        super().update(predictions, batch)
        if self.turn == 0:
            assert len(self.right) == 4, "the validation went on after the signal"
            os.kill(os.getpid(), signal.SIGTERM)


def trainer(folder: Path, *extra: Callback, accumulate: int = 1, metric: Any = None, by: str = "epoch") -> Any:
    """Three epochs of 4 steps with everything that has state; only the end of an epoch writes checkpoints."""
    return toy.trainer(
        data_loader=toy.loader(11, 3),
        val_data_loader=toy.loader(7, 4),
        val_metrics=metric or toy.ToyMetric(),
        num_epochs=3,
        batch_processor=BasicBatchProcessor(grad_accumulation_step=accumulate),
        callbacks=[
            *extra,
            StatsMonitor(),
            CosLrUpdater(warmup_len=3, flat_ratio=0.5, min_lr_ratio=0.05),
            ExponentialMovingAverage(momentum=0.05, gamma=5),
            Validation(interval_by=by),
            EarlyStop(monitor_metric_key="AP", patience=9),
            ResultsCsv(path=folder / "results.csv"),
            Checkpoint(save_dir=folder),
        ],
    )


def differences(a: Any, b: Any, path: str = "") -> list[str]:
    if isinstance(a, torch.Tensor):
        return [] if isinstance(b, torch.Tensor) and torch.equal(a, b) else [path]
    if isinstance(a, dict):
        return [f"{path}: {sorted(set(a) ^ set(b))}"] if a.keys() != b.keys() else [
            found for key in a for found in differences(a[key], b[key], f"{path}/{key}")
        ]  # fmt: skip
    if isinstance(a, (list, tuple)):
        return [found for i, pair in enumerate(zip(a, b, strict=True)) for found in differences(*pair, f"{path}/{i}")]
    return [] if a == b or a != a else [path]


def assert_same(whole: Path, resumed: Path) -> None:
    for name in ("last", "best"):
        file = f"float-checkpoint-{name}.pth.tar"
        a, b = load_checkpoint(whole / file), load_checkpoint(resumed / file)
        for state in (a, b):
            state["callbacks"] = {k: v for k, v in state["callbacks"].items() if not k.startswith("SignalAt")}
        for part in ("state_dict", "raw_state_dict", "optimizer", "progress", "callbacks", "metrics", "rng"):
            assert not differences(a.get(part), b.get(part), f"{name}: {part}")
    assert not list(resumed.glob(".*.tmp"))


def interrupt_and_resume(folder: Path, *extra: Callback, **settings: Any) -> str:
    """Run into the signal, then resume to the end in what could be a new process; gives the message."""
    with pytest.raises(Terminated) as caught:
        trainer(folder, *extra, **settings).fit()
    assert exit_status(caught.value) == 143
    torch.manual_seed(12345)
    settings.pop("metric", None)
    trainer(folder, **settings).fit(resume=True)
    return str(caught.value)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    trainer(folder).fit()
    assert load_checkpoint(folder / LAST)["progress"]["step"] == STEPS
    return folder


@pytest.mark.parametrize("step", range(STEPS - 1))
def test_sigterm_within_a_step_ends_after_it_with_a_checkpoint(tmp_path: Path, whole: Path, step: int) -> None:
    message = interrupt_and_resume(tmp_path, SignalAt(step))
    where = f"epoch {step // 4 + 1}, step {step % 4 + 1} of 4 is saved in {tmp_path / LAST}"
    assert message == f"{where}; the same command with --resume continues there"
    assert_same(whole, tmp_path)


@pytest.mark.parametrize("event", ["on_epoch_begin", "on_step_begin", "on_batch_begin", "on_step_end"])
def test_sigterm_at_other_events(tmp_path: Path, whole: Path, event: str) -> None:
    interrupt_and_resume(tmp_path, SignalAt(4, event))
    assert_same(whole, tmp_path)


def test_sigterm_after_the_last_step_leaves_the_last_validation_to_the_resumed_run(tmp_path: Path, whole: Path) -> None:
    assert "epoch 3, step 4 of 4 is saved" in interrupt_and_resume(tmp_path, SignalAt(STEPS - 1))
    assert_same(whole, tmp_path)


@pytest.mark.parametrize("turn", [1, 2, 3])
def test_sigterm_within_a_validation_does_not_wait_for_its_end(tmp_path: Path, whole: Path, turn: int) -> None:
    message = interrupt_and_resume(tmp_path, metric=SignalInValidation(turn))
    assert f"epoch {turn}, step 4 of 4 is saved" in message
    assert_same(whole, tmp_path)


def test_sigterm_within_a_validation_between_steps_waits_for_its_end(tmp_path: Path) -> None:
    trainer(tmp_path / "whole", by="step").fit()
    interrupt_and_resume(tmp_path / "cut", SignalAt(5, "on_step_end"), by="step")
    assert_same(tmp_path / "whole", tmp_path / "cut")


def test_sigterm_while_a_checkpoint_is_written(tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an epoch's end: it is complete, and the next epoch is not begun."""
    replace, sent = os.replace, []

    def replace_and_signal(source: Any, target: Any) -> None:
        if not sent and "last" in str(target):
            sent.append(target)
            os.kill(os.getpid(), signal.SIGTERM)
        replace(source, target)

    monkeypatch.setattr(checkpoint_module.os, "replace", replace_and_signal)
    message = interrupt_and_resume(tmp_path)
    assert message.startswith(f"epoch 1, step 4 of 4 is saved in {tmp_path / LAST}")
    assert_same(whole, tmp_path)


def test_an_accumulation_is_finished_first(tmp_path: Path) -> None:
    trainer(tmp_path / "whole", accumulate=3).fit()
    message = interrupt_and_resume(tmp_path / "cut", SignalAt(4), accumulate=3)
    assert message.startswith("epoch 2, step 3 of 4")
    assert_same(tmp_path / "whole", tmp_path / "cut")


def test_interrupted_twice(tmp_path: Path, whole: Path) -> None:
    with pytest.raises(Terminated):
        trainer(tmp_path, SignalAt(2)).fit()
    with pytest.raises(Terminated):
        trainer(tmp_path, metric=SignalInValidation(1)).fit(resume=True)
    with pytest.raises(Terminated):
        trainer(tmp_path, metric=SignalInValidation(1)).fit(resume=True)  # in the validation that was put off
    trainer(tmp_path).fit(resume=True)
    assert_same(whole, tmp_path)


class DyingWorkers(toy.ToyData):
    """At image ``at`` (index, seed) the training gets SIGTERM and the worker is killed, as a cancelled job is."""

    at: tuple[int, int] | None = None

    def __getitem__(self, ref: Any) -> Any:
        if self.at == ref[:2]:
            os.kill(os.getppid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(ref)


@pytest.mark.parametrize("at", [0, 5, 10])
def test_a_job_whose_processes_are_ended_saves_the_step_before(tmp_path: Path, whole: Path, at: int) -> None:
    def run(where: tuple[int, int] | None) -> Any:
        data = DyingWorkers(11)
        data.at = where
        loop = trainer(tmp_path)
        loop.data_loader = Loader(data, 3, sampler=toy.ToySampler(data), num_workers=1, persistent_workers=True)
        return loop

    order = toy.ToySampler(toy.ToyData(11))
    order.set_epoch(1)
    with pytest.raises(Terminated, match=r"step \d of 4 is saved"):
        run(list(order)[at][:2]).fit()
    run(None).fit(resume=True)
    assert_same(whole, tmp_path)


def test_ctrl_c_is_a_keyboard_interrupt_with_the_same_checkpoint(tmp_path: Path, whole: Path) -> None:
    with pytest.raises(KeyboardInterrupt, match=r"epoch 2, step 2 of 4 is saved") as caught:
        trainer(tmp_path, SignalAt(5, number=signal.SIGINT)).fit()
    assert type(caught.value) is KeyboardInterrupt and exit_status(caught.value) == 130
    trainer(tmp_path).fit(resume=True)
    assert_same(whole, tmp_path)


def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt) as caught:
        trainer(tmp_path, SignalAt(1, "on_step_begin"), SignalAt(1, "on_batch_begin", signal.SIGINT)).fit()
    assert not str(caught.value) and not (tmp_path / LAST).exists()


def test_without_a_checkpoint_callback_the_message_says_that_nothing_is_saved() -> None:
    with pytest.raises(Terminated, match="nothing is saved: there is no Checkpoint callback"):
        toy.trainer(callbacks=[SignalAt(1)]).fit()


def test_under_torchrun_the_same_signal_comes_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    interruption = Interruption()
    with interruption.deferred():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        assert interruption.number == signal.SIGINT
        now = time.monotonic() + 6
        monkeypatch.setattr(time, "monotonic", lambda: now)
        with pytest.raises(Terminated):
            os.kill(os.getpid(), signal.SIGTERM)


def test_outside_of_a_training_sigterm_unwinds_like_ctrl_c() -> None:
    cleaned = []
    for number, status in ((signal.SIGTERM, 143), (signal.SIGHUP, 129)):
        with pytest.raises(KeyboardInterrupt) as caught, terminating_like_ctrl_c():
            try:
                os.kill(os.getpid(), number)
            finally:
                cleaned.append(number)
        assert exit_status(caught.value) == status
    assert cleaned == [signal.SIGTERM, signal.SIGHUP]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_an_ignored_hangup_stays_ignored() -> None:
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with terminating_like_ctrl_c(), Interruption().deferred():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
