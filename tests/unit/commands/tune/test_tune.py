"""Studies of a toy, where optuna is installed."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import pytest

from hatdet.commands.tune.command import main
from hatdet.engine.callbacks.base import Callback
from hatdet.utils.errors import ConfigError, UserError

pytest.importorskip("optuna", reason="optuna is not installed (pip install 'hatdet[tune]')")

CONFIG = """
import torch
from tests.unit.commands.tune.test_tune import Gauge
from tests.unit.engine import toy

lr = 0.01
bonus = 0.0
epochs = 6
ckpt_dir = work_dir
float_trainer = dict(
    type="Trainer",
    model=dict(type=toy.ToyModel),
    data_loader=dict(type=toy.loader),
    val_data_loader=dict(type=toy.loader),
    val_metrics=dict(type=Gauge, bonus=bonus),
    optimizer=dict(type=torch.optim.AdamW, lr=lr),
    num_epochs=epochs,
    device="cpu",
    callbacks=[dict(type="Validation"), dict(type="Checkpoint", save_dir=ckpt_dir, name_prefix="float")],
)
"""


class Gauge:
    """A metric that gives what the config says: the nearer to 0.7 the better; below 0.1 nothing can be measured."""

    def __init__(self, bonus: float) -> None:
        self.bonus = bonus

    def reset(self) -> None: ...

    def update(self, predictions: Any, batch: Any) -> None: ...

    def compute(self) -> dict[str, float]:
        return {"AP": -1.0 if self.bonus < 0.1 else 1 - abs(self.bonus - 0.7)}

    def format(self, values: dict[str, float]) -> str:
        return f"AP {values['AP']:.3f}"


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.py").write_text(CONFIG)
    return tmp_path / "c.py"


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "work_dirs" / "c" / "tune" / "trials.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_study_goes_on_and_names_the_best(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(config), "--search", "bonus=0.2..1.0", "lr=0.01,0.02", "--epochs", "1"]
    main([*words, "--trials", "2"])
    assert len(table(config.parent)) == 2
    capsys.readouterr()
    main([str(config), "--trials", "4"])  # what is searched is known
    out = capsys.readouterr().out
    assert "4 trials of 1 epochs, 2 done: bonus 0.2..1, lr 0.01,0.02" in out and out.count("\ntrial ") == 2
    rows = table(config.parent)
    scores = [float(row["AP"]) for row in rows]
    assert len(rows) == 4 and scores == sorted(scores, reverse=True)
    assert scores[0] == pytest.approx(1 - abs(float(rows[0]["bonus"]) - 0.7))
    best = out.splitlines()[-1]
    assert best.startswith("next: python tools/train.py --config ") and f"bonus={rows[0]['bonus']}" in best
    folder = config.parent / "work_dirs" / "c" / "tune" / rows[0]["folder"]
    assert [file.name for file in folder.glob("*.pth.tar")] == ["float-checkpoint-best.pth.tar"]


def test_an_interrupted_trial_goes_on_in_its_folder(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from hatdet.commands.tune import study

    class Stop(study.Watch):
        def on_epoch_end(self, loop: Any) -> None:
            super().on_epoch_end(loop)
            if loop.progress.epoch == 1:
                raise KeyboardInterrupt

    words = [str(config), "--search", "bonus=0.2..1.0", "--epochs", "3", "--trials", "1"]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt, match="the same command goes on"):
        patch.setattr(study, "Watch", Stop)
        main(words)
    first = re.search(r"trial 1 of 1: (bonus=\S+) ", capsys.readouterr().out)
    main(words)
    out = capsys.readouterr().out
    assert first and f"trial 1 of 1: {first[1]} " in out and "trial-001)" in out
    assert "resumed from" in out and "epoch 2/3" in out and "epoch 1/3" not in out
    (row,) = table(config.parent)
    assert row["folder"] == "trial-001" and row["state"] == "complete"


@pytest.mark.slow
def test_a_trial_that_falls_behind_is_ended(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(config), "--search", "bonus=0.2..1.0", "--epochs", "3", "--trials", "12"]
    main(words)
    states = {row["state"] for row in table(config.parent)}
    assert states == {"complete", "pruned"} and "is below the median of the other trials" in capsys.readouterr().out
    (config.parent / "work_dirs" / "c" / "tune" / "study.db").unlink()
    main([*words, "--no-prune", "--work-dir", str(config.parent / "other")])
    assert "below the median" not in capsys.readouterr().out


def test_failed_trials_are_told_and_too_many_end_it(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="the first 3 trials have all failed, the last one: AP was not measured"):
        main([str(config), "--search", "bonus=0.0..0.05", "--epochs", "1", "--trials", "9"])
    assert [row["state"] for row in table(config.parent)] == ["fail"] * 3
    assert capsys.readouterr().out.count("this trial has failed: AP was not measured") == 3


def test_another_study_in_the_folder_is_refused(config: Path) -> None:
    words = [str(config), "--epochs", "1", "--trials", "1"]
    main([*words, "--search", "bonus=0.2..1.0"])
    with pytest.raises(UserError, match=r"is a study with space \{'bonus': '0.2..1'\}, not \{'bonus': '0.3..1'\}"):
        main([*words, "--search", "bonus=0.3..1.0"])
    with pytest.raises(UserError, match="is a study with epochs 1, not 2"):
        main([str(config), "--epochs", "2", "--trials", "1"])
    with pytest.raises(ConfigError, match=r"--key AP5 is not among what the validation gives; did you mean 'AP'\?"):
        main([*words, "--key", "AP5", "--search", "bonus=0.2..1.0", "--work-dir", str(config.parent / "w")])


def test_a_study_that_found_nothing_takes_other_words(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(config), "--trials", "1", "--epochs", "1"]
    with pytest.raises(ConfigError, match="--key AP5 is not among"):
        main([*words, "--key", "AP5", "--search", "bonus=0.2..1.0"])
    main([*words, "--search", "bonus=0.3..0.9"])
    text = capsys.readouterr().out
    assert "1 trials of 1 epochs, 0 done: bonus 0.3..0.9" in text and "trial-002)" in text and "next: " in text


def test_a_study_that_goes_on_draws_other_values(config: Path) -> None:
    words = [str(config), "--epochs", "1", "--search", "bonus=0.2..1.0"]
    for trials in ("1", "2", "3"):
        main([*words, "--trials", trials])
    rows = table(config.parent)
    assert len({row["bonus"] for row in rows}) == 3


def test_a_damaged_study_is_said(config: Path) -> None:
    Path("work_dirs/c/tune").mkdir(parents=True)
    Path("work_dirs/c/tune/study.db").write_text("no data base at all")
    with pytest.raises(UserError, match=r"study.db cannot be opened as a study \(.*\): move it away"):
        main([str(config), "--trials", "1", "--search", "bonus=0.2..1.0"])


def test_the_watch_is_a_callback_with_a_state(config: Path) -> None:
    from hatdet.commands.tune.study import Watch

    watch = Watch(None, "AP", prune=False)
    watch.load_state_dict({"best": 0.5})
    assert isinstance(watch, Callback) and watch.state_dict() == {"best": 0.5}
