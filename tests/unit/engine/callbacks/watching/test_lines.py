"""What `StatsMonitor` and `Validation` tell of a training, and that telling it changes nothing."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from hatdet.engine.callbacks.base import Callback
from hatdet.engine.callbacks.stats_monitor import StatsMonitor
from hatdet.engine.callbacks.validation import Validation
from hatdet.utils.logging import setup_logging
from tests.unit.engine import toy


def test_the_line_of_an_epoch_has_what_matters_first(caplog: pytest.LogCaptureFixture) -> None:
    toy.trainer(callbacks=[StatsMonitor()], num_epochs=2).fit()
    lines = [line for line in caplog.messages if line.startswith("epoch ")]
    assert [line.split("  ")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    for line in lines:
        parts = line.split("  ")
        assert parts[1].startswith("eta 0:00:0") and parts[2].endswith(" images/s") and parts[3].startswith("loss ")
        assert [part.split(" ")[0] for part in parts[4:7]] == ["cls", "reg", "accuracy"][: len(parts) - 4]
        assert len(line) <= 80


def test_a_line_of_many_terms_is_cut_between_two_of_them(caplog: pytest.LogCaptureFixture) -> None:
    class Many(toy.ToyModel):
        def forward(self, batch: Any) -> Any:
            out = super().forward(batch)
            return out | {f"loss_of_level_{i}": 0 * out["loss_cls"] for i in range(9)} if self.training else out

    toy.trainer(model=Many(), callbacks=[StatsMonitor()], num_epochs=1).fit()
    (line,) = [line for line in caplog.messages if line.startswith("epoch ")]
    assert 60 < len(line) <= 80 and "images/s  loss " in line


def test_lines_within_an_epoch_go_to_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    setup_logging(tmp_path / "log.txt")
    toy.trainer(callbacks=[StatsMonitor(log_freq=2)], num_epochs=1).fit()
    setup_logging()
    out, file = capsys.readouterr().out, (tmp_path / "log.txt").read_text()
    assert "[2/5]" not in out and out.count("epoch 1/1") == 1
    first = next(line for line in file.splitlines() if "[2/5]" in line)
    for text in ("eta 0:00:0", "images/s", "loss ", "loss_cls ", "loss_reg ", "accuracy ", "lr 1.000e-02", "MiB"):
        assert text in first
    assert file.count("waiting for data") == 2


def test_a_long_epoch_without_a_terminal_is_heard_of(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("hatdet.engine.callbacks.stats_monitor.QUIET_SECONDS", 0.0)
    setup_logging(tmp_path / "log.txt")
    toy.trainer(callbacks=[StatsMonitor(log_freq=2)], num_epochs=1).fit()
    setup_logging()
    assert capsys.readouterr().out.count("/5]") == 2


def test_a_validation_is_a_line_and_the_last_one_the_whole_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Long(toy.ToyMetric):
        def format(self, values: dict[str, float]) -> str:
            return "a table\nof two lines"

    setup_logging(tmp_path / "log.txt")
    parts = {"val_data_loader": toy.loader(4, 4), "val_metrics": Long(), "num_epochs": 3}
    toy.trainer(callbacks=[StatsMonitor(), Validation()], **parts).fit()
    setup_logging()
    out, file = capsys.readouterr().out, (tmp_path / "log.txt").read_text()
    lines = [line for line in out.splitlines() if line.startswith("validation")]
    assert len(lines) == 3 and lines[1].startswith("validation after epoch 2: AP ")
    assert "images 4.0000 (0." in lines[1]
    assert out.count("a table\nof two lines") == 1 and out.endswith("a table\nof two lines\n")
    assert file.count("a table\nof two lines") == 3


def test_validations_to_come() -> None:
    def left(epoch: int, **settings: Any) -> int:
        loop = toy.trainer(num_epochs=10)
        loop.progress.epoch, loop.progress.step = epoch, 5 * epoch
        return Validation(**settings).validations_left(loop)

    assert left(0) == 10
    assert left(0, val_interval=4) == 3  # after 4, 8 and the last
    assert left(4, val_interval=4, num_last_epochs=3) == 3  # after 8, 9, 10
    assert left(0, val_interval=20, interval_by="step") == 3  # after 20 and 40 steps, and at the end


def test_the_whole_is_estimated_once(caplog: pytest.LogCaptureFixture) -> None:
    parts = {"val_data_loader": toy.loader(4, 4), "val_metrics": toy.ToyMetric(), "num_epochs": 3}
    data = {"data_loader": toy.loader(80)}
    toy.trainer(callbacks=[StatsMonitor(), Validation(val_interval=2)], **parts, **data).fit()
    (text,) = [line for line in caplog.messages if " from here: " in line]
    assert text.startswith("about 1 s from here: 3 epochs of 20 steps, 0.")
    assert text.endswith(" s each; 2 validations on top (measured in 10 steps)")
    caplog.clear()
    toy.trainer(callbacks=[StatsMonitor()], num_epochs=1).fit()  # over before anyone has read it
    assert not [line for line in caplog.messages if " from here: " in line]


class SlowLoader(torch.utils.data.DataLoader[Any]):
    def __iter__(self) -> Any:
        for batch in super().__iter__():
            time.sleep(0.003)
            yield batch


def test_waiting_for_data_is_said_once(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hatdet.engine.callbacks.watching.hints.usable_processors", lambda: 8)
    data = toy.ToyData(80)
    loader = SlowLoader(data, 4, sampler=toy.ToySampler(data))
    toy.trainer(callbacks=[StatsMonitor()], num_epochs=4, data_loader=loader).fit()
    (text,) = [line for line in caplog.messages if "waits for its data" in line]
    assert "num_workers of the data loader is 0, and there are 8 processors" in text


def test_a_validation_between_steps_is_not_waiting(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hatdet.engine.callbacks.watching.hints.BOUND", 0.8)  # toy steps are as short as their wait

    class Metric(toy.ToyMetric):
        def update(self, predictions: Any, batch: Any) -> None:
            time.sleep(0.01)
            super().update(predictions, batch)

    parts = {"val_data_loader": toy.loader(4, 4), "val_metrics": Metric(), "num_epochs": 3}
    watch = [StatsMonitor(), Validation(val_interval=1, interval_by="step")]
    toy.trainer(callbacks=watch, data_loader=toy.loader(80), **parts).fit()
    assert not [line for line in caplog.messages if "waits for its data" in line]


def moved(caplog: pytest.LogCaptureFixture, **settings: Any) -> list[str]:
    caplog.clear()
    toy.trainer(callbacks=[StatsMonitor()], data_loader=toy.loader(100, 2), **settings).fit()
    return [line for line in caplog.messages if "does not move" in line]


def test_a_loss_that_does_not_move_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    (text,) = moved(caplog, num_epochs=6, optimizer=toy.factory(lr=1e-9))
    assert " in the first 50 steps, " in text and " in the last after 200; " in text and "(1e-09 now" in text
    assert not moved(caplog, num_epochs=6, optimizer=toy.factory(lr=0.01))
    assert not moved(caplog, num_epochs=3, optimizer=toy.factory(lr=1e-9))  # too short to say so


def test_a_quantized_network_may_stay_where_it_is(caplog: pytest.LogCaptureFixture) -> None:
    class Quantized(toy.ToyModel):
        def evaluation_model(self) -> Any:
            return self

    assert not moved(caplog, model=Quantized(), num_epochs=6, optimizer=toy.factory(lr=1e-9))


def test_watching_changes_nothing() -> None:
    def weights(*callbacks: Callback) -> dict[str, torch.Tensor]:
        run = toy.trainer(callbacks=list(callbacks), data_loader=toy.loader(80), num_epochs=4)
        run.fit()
        return dict(run.model.state_dict())

    plain, watched = weights(), weights(StatsMonitor(log_freq=3))
    assert all(torch.equal(value, watched[name]) for name, value in plain.items())


@pytest.fixture(autouse=True)
def propagated(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="hatdet")
