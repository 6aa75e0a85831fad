"""A teacher's losses in the loop: beside the labels', resumed bit for bit, and never in the student."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hatdet.engine.batch_processors import BasicBatchProcessor
from hatdet.engine.callbacks.base import Callback
from hatdet.engine.callbacks.checkpoint import Checkpoint
from hatdet.engine.callbacks.ema import ExponentialMovingAverage
from hatdet.engine.callbacks.teaching.distillation import Distillation
from hatdet.engine.checkpoints.provenance import file_digest, teachers
from hatdet.utils.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from hatdet.utils.errors import UserError
from tests.unit.engine import toy


@pytest.fixture
def teacher_file(tmp_path: Path) -> Path:
    path = tmp_path / "teacher.pth.tar"
    torch.manual_seed(7)
    save_checkpoint(path, {"state_dict": nn.Conv2d(3, 6, 3).state_dict()})
    return path


def trained(folder: Path, file: Path, epochs: int, resume: bool = False, **settings: Any) -> Any:
    torch.manual_seed(7)
    teacher = toy.ToyTeacher(str(file))
    run = toy.trainer(
        num_epochs=epochs,
        callbacks=[
            Distillation(teacher=teacher),
            ExponentialMovingAverage(momentum=0.01, gamma=20),
            Checkpoint(save_dir=str(folder)),
        ],
        **settings,
    )
    run.fit(resume=resume)
    steps = run.progress.step if not resume else len(teacher.calls) - 3
    assert teacher.calls == ["pair", "listen", *["float32"] * steps, "close"]
    return run


def same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(value, b[key]) for key, value in a.items())
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def test_resumed_training_is_the_uninterrupted_one(tmp_path: Path, teacher_file: Path) -> None:
    trained(tmp_path / "whole", teacher_file, 3)
    trained(tmp_path / "parts", teacher_file, 1)
    trained(tmp_path / "parts", teacher_file, 3, resume=True)
    files = [load_checkpoint(tmp_path / name / "float-checkpoint-last.pth.tar") for name in ("whole", "parts")]
    for key in ("state_dict", "raw_state_dict", "optimizer"):
        assert same(files[0][key], files[1][key]), key
    mine, other = (file["callbacks"]["Distillation"] for file in files)
    assert same(mine, other)
    assert mine["adapters"]["0.weight"].abs().sum() > 0 and mine["optimizer"]["state"][0]["step"] == 15


def test_checkpoints_have_the_student_alone_and_say_whose_it_is(tmp_path: Path, teacher_file: Path) -> None:
    run = trained(tmp_path, teacher_file, 1)
    state = load_checkpoint(tmp_path / "float-checkpoint-last.pth.tar")
    assert set(state["state_dict"]) == set(toy.model().state_dict()) == set(state["raw_state_dict"])
    assert state["callbacks"]["Distillation"]["teacher"] == {
        "file": str(teacher_file), "id": None, "digest": file_digest(teacher_file),
    }  # fmt: skip
    assert set(run.losses) == {"loss_cls", "loss_reg", "accuracy", "loss_kd_feat"}
    total = run.losses["loss_cls"] + run.losses["loss_reg"] + run.losses["loss_kd_feat"]
    assert float(run.loss) == pytest.approx(float(total))


def test_another_teacher_is_refused_on_resume(tmp_path: Path, teacher_file: Path) -> None:
    trained(tmp_path, teacher_file, 1)
    other = tmp_path / "other.pth.tar"
    save_checkpoint(other, {"state_dict": nn.Conv2d(3, 6, 3).state_dict()})
    with pytest.raises(UserError) as error:
        trained(tmp_path, other, 2, resume=True)
    message = str(error.value)
    digest = file_digest(teacher_file)[:12]
    assert message.startswith(f"this training learned of {teacher_file} (weights {digest}), the teacher is now")
    assert message.endswith("resume with the former one, or train anew (--overwrite)")


def test_gradients_of_adapters_are_those_of_the_whole_update(tmp_path: Path, teacher_file: Path) -> None:
    """Two batches an update: 5 batches are 3 updates."""
    processor = BasicBatchProcessor(grad_accumulation_step=2)
    trained(tmp_path, teacher_file, 1, batch_processor=processor)
    state = load_checkpoint(tmp_path / "float-checkpoint-last.pth.tar")
    assert state["callbacks"]["Distillation"]["optimizer"]["state"][0]["step"] == 3


def test_the_student_draws_what_it_would_draw_alone(tmp_path: Path, teacher_file: Path) -> None:
    """The toy teacher draws an adapter when it is paired; dropout and order are as without it."""

    class Draws(Callback):
        def __init__(self) -> None:
            self.drawn: list[Tensor] = []

        def on_losses(self, loop: Any, batch: Any, losses: dict[str, Tensor]) -> None:
            self.drawn.append(torch.get_rng_state())

    alone, taught = Draws(), Draws()
    toy.trainer(num_epochs=1, callbacks=[alone]).fit()
    torch.manual_seed(3)
    teacher = toy.ToyTeacher(str(teacher_file))
    toy.trainer(num_epochs=1, callbacks=[Distillation(teacher=teacher), taught]).fit()
    assert len(alone.drawn) == 5 and same(alone.drawn, taught.drawn)


def test_a_run_s_record_names_its_teacher(teacher_file: Path) -> None:
    part = {"type": "Distillation", "teacher": {"type": "Teacher", "checkpoint": str(teacher_file)}}
    assert teachers({"callbacks": [part]})["teacher"]["digest"] == file_digest(teacher_file)
    assert teachers({"callbacks": []}) == {}
    assert teachers({}) == {}


def test_a_rate_of_nothing_is_refused(teacher_file: Path) -> None:
    with pytest.raises(UserError, match="adapter_lr is 0; it must be above 0"):
        Distillation(teacher=toy.ToyTeacher(str(teacher_file)), adapter_lr=0)


def test_the_teacher_computes_in_the_training_s_precision(teacher_file: Path) -> None:
    teacher = toy.ToyTeacher(str(teacher_file))
    processor = BasicBatchProcessor(enable_amp=True, enable_amp_dtype="bfloat16")
    run = toy.trainer(num_epochs=1, batch_processor=processor, callbacks=[Distillation(teacher=teacher)])
    run.fit()
    assert teacher.calls == ["pair", "listen", *["bfloat16"] * 5, "close"]
