"""Resuming with another batch size, data size, length or optimizer settings ends where the new config says."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from hatdet.engine.batch_processors import BasicBatchProcessor
from hatdet.engine.callbacks.base import Callback
from hatdet.engine.callbacks.checkpoint import Checkpoint
from hatdet.engine.callbacks.freeze import FreezeModule
from hatdet.engine.callbacks.schedules.cos_lr import CosLrUpdater
from hatdet.engine.callbacks.validation import Validation
from hatdet.engine.checkpoints.resume import Pace, position
from hatdet.engine.progress import Progress
from hatdet.utils.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from hatdet.utils.errors import UserError
from tests.unit.engine import toy


class Notes(Callback):
    """The learning rate of each step; stops after the step that is given."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.stop_at = stop_at
        self.rates: list[float] = []

    def on_step_end(self, loop: Any) -> None:
        self.rates.append(loop.optimizer.param_groups[0]["lr"])

    def on_step_begin(self, loop: Any) -> None:
        if loop.progress.step == self.stop_at:
            raise KeyboardInterrupt


def run(
    folder: Path, *, images: int = 16, batch: int = 4, epochs: int = 4, stop_at: int | None = None, **more: Any
) -> Any:
    notes = Notes(stop_at)
    made = toy.trainer(
        data_loader=toy.loader(images, batch),
        **({"num_epochs": epochs} if "num_steps" not in more else {}),
        callbacks=[
            *more.pop("callbacks", [CosLrUpdater(warmup_len=0, flat_ratio=0.0, min_lr_ratio=0.0)]),
            Checkpoint(save_dir=folder, save_last_every_steps=1, keep=0),
            notes,
        ],
        **more,
    )
    made.notes = notes
    return made


def stopped(folder: Path, step: int, **settings: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(folder, stop_at=step, **settings).fit()


def last(folder: Path) -> dict[str, Any]:
    return load_checkpoint(folder / "float-checkpoint-last.pth.tar")


@pytest.fixture(autouse=True)
def _logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="hatdet")


def test_twice_the_batch_size_after_whole_epochs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """2 of 4 epochs in steps of 4 (4 an epoch), then steps of 8 (2 an epoch): 4 steps are left, of the second half of
    the cosine. Counted in steps it were 0 of them."""
    run(tmp_path, epochs=2).fit()
    again = run(tmp_path, batch=8, epochs=4)
    again.fit(resume=True)
    assert len(again.notes.rates) == 4
    assert (again.progress.epoch, again.progress.step) == (4, 8)
    half = [0.01 * factor for factor in (0.5, 0.3086582838174551, 0.1464466094067262, 0.03806023374435663)]
    assert again.notes.rates == pytest.approx(half, abs=1e-12)
    assert "steps an epoch 4 -> 2, batch_size 4 -> 8" in caplog.text


def test_half_the_batch_size(tmp_path: Path) -> None:
    run(tmp_path, epochs=2).fit()
    again = run(tmp_path, batch=2, epochs=3)
    again.fit(resume=True)
    assert (len(again.notes.rates), again.progress.epoch, again.progress.step) == (8, 3, 24)


def test_inside_an_epoch_it_goes_on_at_the_image(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """3 steps of 4 are 12 images; with 8 a step that is after the first of 2: images 8 to 11 come once more."""
    stopped(tmp_path, 3)
    again = run(tmp_path, batch=8, epochs=1)
    again.setup(True)
    assert again.progress == Progress(epoch=0, step=1, step_in_epoch=1, samples=12)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0)).tolist()
    assert [int(i) for batch in again.batches() for i in batch["img_id"]] == order[8:]
    assert "epoch 1 goes on after image 8 of the 12 it has seen, 4 of them once more" in caplog.text


def test_an_accumulation_is_not_cut(tmp_path: Path) -> None:
    stopped(tmp_path, 5, images=24)
    again = run(tmp_path, images=24, batch=2, epochs=1, batch_processor=BasicBatchProcessor(grad_accumulation_step=4))
    again.setup(True)
    assert again.progress.step_in_epoch == 8  # 20 images are 10 steps of 2: the update of steps 8 to 11 begins at 8


def test_a_longer_accumulation_begins_at_an_update(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stopped(tmp_path, 3)
    again = run(tmp_path, epochs=1, batch_processor=BasicBatchProcessor(grad_accumulation_step=2))
    again.setup(True)
    assert again.progress.step_in_epoch == 2
    assert "accumulation 1 -> 2: epoch 1 goes on after image 8 of the 12" in caplog.text


def test_frozen_modules_keep_their_names(tmp_path: Path) -> None:
    """They are in the optimizer, and without a gradient when the checkpoint is written."""
    parts: dict[str, Any] = {"optimizer": toy.factory(paramwise={"norm_decay": 0.0})}
    run(tmp_path, epochs=2, callbacks=[FreezeModule(modules=["conv"], epoch=1)], **parts).fit()
    again = run(tmp_path, epochs=3, callbacks=[FreezeModule(modules=["conv"], epoch=1)], **parts)
    again.fit(resume=True)
    assert again.progress.epoch == 3 and sorted(last(tmp_path)["optimizer_names"])[2] == "conv.weight"


def test_more_data_begins_the_epoch_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stopped(tmp_path, 6)
    again = run(tmp_path, images=24, epochs=3)
    again.fit(resume=True)
    assert (len(again.notes.rates), again.progress.epoch, again.progress.step) == (12, 3, 18)
    assert "images 16 -> 24: epoch 2 was under way and begins anew" in caplog.text


def test_less_data_does_not_end_before_the_last_epoch(tmp_path: Path) -> None:
    run(tmp_path, images=40, epochs=2).fit()  # 20 steps
    again = run(tmp_path, images=8, epochs=8)  # 16 steps in all
    again.fit(resume=True)
    assert (len(again.notes.rates), again.progress.epoch, again.progress.step) == (12, 8, 16)


@pytest.mark.parametrize("epochs, text", [(2, "has 2 epochs of num_epochs=2"), (1, "has 2 epochs of num_epochs=1")])
def test_a_finished_run_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture, epochs: int, text: str) -> None:
    run(tmp_path, epochs=2).fit()
    before = (tmp_path / "float-checkpoint-last.pth.tar").read_bytes()
    run(tmp_path, epochs=epochs).fit(resume=True)
    assert "nothing left to do" in caplog.text and text in caplog.text
    assert (tmp_path / "float-checkpoint-last.pth.tar").read_bytes() == before


def test_more_steps_go_on_inside_the_epoch(tmp_path: Path) -> None:
    """num_steps=6 ends after 8 of 16 images of the second epoch; 10 steps go on with the third batch of it."""
    run(tmp_path, num_steps=6).fit()
    again = run(tmp_path, num_steps=10)
    again.setup(True)
    assert (again.progress.epoch, again.progress.step, again.progress.step_in_epoch) == (1, 6, 2)


def test_a_validation_with_the_number_of_an_old_step_counts(tmp_path: Path) -> None:
    """Steps 4 and 8 were validated in steps of 4 images; in steps of 8 they come again, and are validations too."""

    class Rising(toy.ToyMetric):
        value = 0.0

        def compute(self) -> dict[str, float]:
            Rising.value += 0.1
            return {"AP": Rising.value}

        def format(self, values: dict[str, float]) -> str:
            return ""

    parts: dict[str, Any] = {"val_data_loader": toy.loader(4, 4), "val_metrics": Rising()}
    run(tmp_path, epochs=2, callbacks=[Validation()], **parts).fit()
    run(tmp_path, batch=8, epochs=4, callbacks=[Validation()], **parts).fit(resume=True)
    best = load_checkpoint(tmp_path / "float-checkpoint-best.pth.tar")
    assert best["progress"]["epoch"] == 4 and best["metrics"]["AP"] == pytest.approx(0.4)


def test_checkpoints_of_earlier_versions(tmp_path: Path) -> None:
    """They have no pace and no names: the batch size follows from the counts."""
    stopped(tmp_path, 6)
    state = last(tmp_path)
    del state["pace"], state["optimizer_names"], state["optimizer_type"]
    save_checkpoint(tmp_path / "float-checkpoint-last.pth.tar", state)
    with pytest.raises(UserError, match="its optimizer is one with betas, the config's is SGD"):
        run(tmp_path, optimizer=toy.factory(type=torch.optim.SGD)).setup(True)
    same = run(tmp_path)
    same.setup(True)
    assert same.progress == Progress(epoch=1, step=6, step_in_epoch=2, samples=24)
    other = run(tmp_path, batch=2)
    other.setup(True)
    assert other.progress == Progress(epoch=1, step=12, step_in_epoch=4, samples=24)


def test_more_processes() -> None:
    """10 steps of 4 images in one process; in two processes of 2 images the same, of 4 images half of them."""
    old = Pace(steps_per_epoch=20, batch_size=4, processes=1, images=80)
    saved = Progress(epoch=2, step=50, step_in_epoch=10, samples=200)
    assert position(saved, old, Pace(20, 2, 2, 80)) == saved
    assert position(saved, old, Pace(10, 4, 2, 80)) == Progress(epoch=2, step=25, step_in_epoch=5, samples=200)


def test_a_warm_up_longer_than_the_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """W = 31 steps with the full rate in step 30: step 15, the last of 16, has half of it."""
    schedule = CosLrUpdater(warmup_len=31, warmup_start_factor=1e-9, flat_ratio=1.0)
    run(tmp_path, callbacks=[schedule]).fit()
    assert (
        "the warm-up of 31 steps is longer than the training of 16: the learning rate never gets above 0.5 of what is "
        "set; shorten the warm-up (warmup_steps, or the callback's own setting) or train longer"
    ) in caplog.text


def test_a_best_file_that_is_gone_is_made_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without it nothing better than the lost value would ever be written, and the next stage would find no file."""
    run(tmp_path, epochs=2).fit()
    last, best = (tmp_path / f"float-checkpoint-{which}.pth.tar" for which in ("last", "best"))
    state = load_checkpoint(last)
    state["callbacks"] = {
        key: {**value, "monitor": {"best": 2.0, "seen_at": 8}} if "monitor" in value else value
        for key, value in state["callbacks"].items()
    }
    save_checkpoint(last, state)
    best.unlink(missing_ok=True)
    made = run(tmp_path, epochs=3, callbacks=[Validation()], val_data_loader=toy.loader(), val_metrics=toy.ToyMetric())
    made.fit(resume=True)
    assert f"{best} (AP 2.0000) is missing" in caplog.text and f"`cp {last} {best}`" in caplog.text
    assert load_checkpoint(best)["progress"]["epoch"] == 3
    caplog.clear()
    state["progress"] = load_checkpoint(last)["progress"]
    save_checkpoint(last, state)
    run(tmp_path, epochs=4).fit(resume=True)
    assert "is missing" not in caplog.text


def test_data_that_were_checked_before_are_not_checked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """train.py checks them before anything is written; what it says of them would be said twice."""
    checked: list[object] = []
    monkeypatch.setattr("hatdet.engine.loop.compare_start", lambda *arguments: checked.append(arguments))
    first, second = run(tmp_path), run(tmp_path)
    first.check_data()
    first.convert()
    assert len(checked) == 1
    second.convert()
    assert len(checked) == 2
