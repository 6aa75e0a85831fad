"""Each tracker in its offline mode, where it is installed; and what they share, without any."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from hatdet.engine.callbacks.base import Callback
from hatdet.engine.callbacks.checkpoint import Checkpoint
from hatdet.engine.callbacks.stats_monitor import StatsMonitor
from hatdet.engine.callbacks.trackers.clearml import ClearML
from hatdet.engine.callbacks.trackers.mlflow import MLflow, _allowed
from hatdet.engine.callbacks.trackers.tracker import TRACKERS, Tracker
from hatdet.engine.callbacks.trackers.wandb import WandB
from hatdet.registry import resolve
from hatdet.utils.errors import UserError
from tests.unit.engine import toy


def needs(package: str) -> Any:
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"{package} is not installed")


class Noted(Tracker):
    """A tracker that notes what it is given; from ``fails`` on its server is gone."""

    module, extra = "json", "json"

    def __init__(self, fails: str = "") -> None:
        super().__init__()
        self.fails, self.seen = fails, []  # type: ignore[var-annotated]

    def _note(self, *what: Any) -> None:
        if what[0] == self.fails:
            raise ConnectionError("no server\nat all")
        self.seen.append(what)

    def begin(self, name: str, settings: dict[str, Any]) -> str:
        self._note("begin", name, self.run_id, settings["lr"])
        return self.run_id or "new"

    def write(self, scalars: Mapping[str, float], step: int) -> None:
        self._note("write", sorted(scalars), step)

    def end(self, finished: bool) -> None:
        self._note("end", finished)


class Stop(Callback):
    def on_step_end(self, loop: Any) -> None:
        if loop.progress.step == 7:
            raise KeyboardInterrupt


def train(folder: Path, *callbacks: Callback, resume: bool = False, epochs: int = 2) -> None:
    saving = Checkpoint(save_dir=folder, monitor_metric_key=None)
    run = toy.trainer(callbacks=[StatsMonitor(), *callbacks, saving], num_epochs=epochs)
    run.work_dir, run.record = folder / "mask" / "float", {"constants": {"lr": 0.1, "classes": ("a", "b")}, "id": "x"}
    run.fit(resume=resume)


def test_a_tracker_gets_settings_scalars_and_the_end(tmp_path: Path) -> None:
    tracker = Noted()
    train(tmp_path, tracker)
    assert tracker.seen[0] == ("begin", "mask/float", None, 0.1) and tracker.seen[-1] == ("end", True)
    assert [step for what, _, step in tracker.seen[1:-1]] == [5, 10]
    assert {"train/loss", "train/lr", "train/images_per_second"} <= set(tracker.seen[1][1])


def test_a_resumed_training_goes_on_in_its_run(tmp_path: Path) -> None:
    first, second = Noted(), Noted()
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, first, Stop())
    assert first.seen[-1] == ("end", False)
    train(tmp_path, second, resume=True)
    assert second.seen[0] == ("begin", "mask/float", "new", 0.1)


@pytest.mark.parametrize("fails", ["begin", "write", "end"])
def test_a_tracker_that_fails_does_not_end_a_training(fails: str, tmp_path: Path, caplog: Any) -> None:
    caplog.set_level(logging.INFO, logger="hatdet")
    train(tmp_path, Noted(fails))
    said = [line for line in caplog.messages if "writes nothing" in line]
    assert said == ["Noted writes nothing from here on: ConnectionError: no server"]


def test_a_missing_package_is_named_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for kind in (MLflow, WandB, ClearML):
        with pytest.raises(UserError, match=rf"pip install 'hatdet\[{kind.extra}\]', or leave it out"):
            kind()


def test_the_names_of_log_are_callbacks() -> None:
    assert [resolve(name) for name in TRACKERS.values()] == [MLflow, WandB, ClearML]


def test_names_that_mlflow_takes() -> None:
    assert _allowed("val/AP/a+b (c)") == "val/AP/a_b _c_"


@needs("mlflow")
def test_mlflow_in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # newer releases want to hear that a folder is meant
    from mlflow.tracking import MlflowClient

    uri = (tmp_path / "mlruns").as_uri()
    train(tmp_path, MLflow(tracking_uri=uri))
    train(tmp_path, MLflow(tracking_uri=uri), resume=True, epochs=3)
    client = MlflowClient(tracking_uri=uri)
    (run,) = client.search_runs([client.get_experiment_by_name("hatdet").experiment_id])
    assert run.info.run_name == "mask/float" and run.info.status == "FINISHED"
    assert run.data.params["lr"] == "0.1" and run.data.params["classes"] == "('a', 'b')"
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert [metric.step for metric in history] == [5, 10, 15]


@needs("wandb")
@pytest.mark.slow
def test_wandb_offline(tmp_path: Path) -> None:
    tracker = WandB(mode="offline", save_dir=str(tmp_path))
    train(tmp_path, tracker)
    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    (file,) = folder.glob(f"run-{tracker.run_id}.wandb")
    content = file.read_bytes()
    assert b"train/images_per_second" in content and b"mask/float" in content


@needs("clearml")
@pytest.mark.slow
def test_clearml_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLEARML_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("CLEARML_OFFLINE_MODE", "1")
    tracker = ClearML(offline=True)
    train(tmp_path, tracker)
    assert tracker.run_id and tracker.run_id.startswith("offline-")
    (metrics,) = tracker._task.get_offline_mode_folder().rglob("metrics.jsonl")
    assert "images_per_second" in metrics.read_text()
