"""One folder, one run: refused, moved aside, numbered, locked."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hatdet.config.config import Config
from hatdet.config.load import load_config
from hatdet.config.options import parse_options
from hatdet.engine.checkpoints.provenance import read_record
from hatdet.engine.run import train
from hatdet.engine.stages import command_line
from hatdet.engine.workdir import claimed, numbered
from hatdet.utils.errors import UserError
from hatdet.utils.logging import setup_logging
from tests.unit.engine.checkpoints.test_provenance import TOY

ROOT = Path(__file__).parents[3]


def toy(tmp_path: Path, **options: Any) -> Config:
    path = tmp_path / "toy.py"
    path.write_text(TOY)
    return load_config(path, {"work_dir": str(tmp_path / "w"), **options})


def content(folder: Path) -> dict[str, bytes]:
    setup_logging()  # the log of a training in this very process is closed
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_folder_with_a_run_takes_no_other(tmp_path: Path) -> None:
    train(toy(tmp_path), "float")
    before = content(tmp_path / "w")
    with pytest.raises(UserError) as raised:
        train(toy(tmp_path, lr=0.02), "float")
    folder = tmp_path / "w"
    assert str(raised.value) == (
        f"{folder} holds a run already (float-checkpoint-last.pth.tar): --resume continues it, --overwrite moves it to "
        f"{folder}-old-1 and starts anew, --work-dir auto takes a folder of its own"
    )
    assert content(folder) == before and not Path(f"{folder}-old-1").exists()


def test_a_later_stage_alone_makes_a_folder_used(tmp_path: Path) -> None:
    train(toy(tmp_path), "float")
    train(toy(tmp_path), "qat")
    for path in (tmp_path / "w").glob("float-checkpoint-*"):
        path.unlink()
    with pytest.raises(UserError, match=r"holds a run already \(qat-checkpoint-last.pth.tar\)"):
        train(toy(tmp_path), "float")


def test_resuming_without_the_last_file_is_refused(tmp_path: Path) -> None:
    """It used to begin anew, with the config's own options, over the files that are there."""
    folder = tmp_path / "w"
    train(toy(tmp_path), "float", resume=True)  # nothing is there: from the beginning
    train(toy(tmp_path), "qat")
    last = folder / "float-checkpoint-last.pth.tar"
    last.unlink()
    (folder / "qat-checkpoint-last.pth.tar").unlink()
    before = content(folder)
    for stage, anew in (("float", "--overwrite instead of --resume"), ("qat", "leaving --resume out")):
        with pytest.raises(UserError) as raised:
            train(toy(tmp_path, lr=0.02), stage, resume=True)
        last, epoch = (folder / f"{stage}-checkpoint-{which}.pth.tar" for which in ("last", "epoch-0001"))
        text = str(raised.value).replace(f"{folder}/{stage}-checkpoint-best.pth.tar", str(epoch))  # of one time
        assert text == (
            f"nothing to resume from: {folder} has {stage}-checkpoint-best.pth.tar, but no {last.name}: "
            f"`cp {epoch} {last}` lets it go on from there, {anew} begins anew"
        )
    assert content(folder) == before


def test_overwrite_moves_the_whole_run_aside_and_deletes_nothing(tmp_path: Path) -> None:
    train(toy(tmp_path), "float")
    train(toy(tmp_path), "qat")
    first = content(tmp_path / "w")
    train(toy(tmp_path), "float", overwrite=True)
    assert content(tmp_path / "w-old-1") == first
    second = content(tmp_path / "w")
    assert not [name for name in second if "qat" in name]
    assert read_record(tmp_path / "w/float-checkpoint-last.pth.tar") != read_record(
        tmp_path / "w-old-1/float-checkpoint-last.pth.tar"
    )
    train(toy(tmp_path), "float", overwrite=True)
    assert content(tmp_path / "w-old-1") == first and content(tmp_path / "w-old-2") == second


def test_overwrite_moves_nothing_that_is_not_the_runs(tmp_path: Path) -> None:
    (tmp_path / "w" / "data").mkdir(parents=True)
    path = tmp_path / "toy.py"
    path.write_text(TOY + "data_root = work_dir + '/data'\n_used = data_root\n")
    config = load_config(path, {"work_dir": str(tmp_path / "w")})
    train(config, "float")
    with pytest.raises(UserError, match=r"would move .*/w aside, but data_root \(.*/w/data\) lies in it"):
        train(config, "float", overwrite=True)
    assert (tmp_path / "w/float-checkpoint-last.pth.tar").is_file()


def test_resume_keeps_the_run_and_a_resumed_run_needs_no_word(tmp_path: Path) -> None:
    train(toy(tmp_path), "float")
    first = read_record(tmp_path / "w/float-checkpoint-last.pth.tar")
    train(toy(tmp_path, epochs=2), "float", resume=True)
    second = read_record(tmp_path / "w/float-checkpoint-last.pth.tar")
    assert first is not None and second is not None
    assert second["id"] == first["id"] and second["constants"]["epochs"] == 2


def test_a_new_qat_moves_the_former_ones_files_aside(tmp_path: Path) -> None:
    train(toy(tmp_path), "float")
    train(toy(tmp_path), "qat")
    former = {name: data for name, data in content(tmp_path / "w").items() if name.startswith("qat-checkpoint")}
    train(toy(tmp_path), "qat")
    assert content(tmp_path / "w" / "old-1") == former
    train(toy(tmp_path, epochs=2), "qat", resume=True)
    assert not (tmp_path / "w" / "old-2").exists()


def test_auto_numbers_the_folders(tmp_path: Path) -> None:
    with numbered(toy(tmp_path)) as first, numbered(toy(tmp_path)) as second, numbered(toy(tmp_path)) as third:
        assert [first, second, third] == [tmp_path / "w", tmp_path / "w-2", tmp_path / "w-3"]
        train(toy(tmp_path, work_dir=str(second)), "float")
        setup_logging()
    assert [path.name for path in sorted(tmp_path.glob("w*"))] == ["w-2"], "those without a run are removed"


def test_two_processes_cannot_train_in_one_folder(tmp_path: Path) -> None:
    config = toy(tmp_path)
    code = (
        "import sys; from pathlib import Path; from tests.unit.engine.test_workdir import toy\n"
        "from hatdet.engine.workdir import claimed\n"
        f"with claimed(toy(Path({str(tmp_path)!r})), 'float', resume=False, overwrite=False):\n"
        "    print('claimed', flush=True); sys.stdin.read()\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True
    )
    assert other.stdout is not None and other.stdout.readline() == "claimed\n"
    lock = tmp_path / "w" / ".lock"
    for stage, resume in (("float", False), ("float", True), ("qat", False)):
        with pytest.raises(UserError) as raised, claimed(config, stage, resume=resume, overwrite=False):
            pass
        who = f"process {other.pid} on {socket.gethostname()} since "
        assert str(raised.value).startswith(f"the work dir {tmp_path / 'w'} is in use by {who}")
    other.kill()
    other.wait()
    assert lock.is_file(), "it was killed"
    with claimed(config, "float", resume=False, overwrite=False):
        assert f'"pid": {os.getpid()}' in lock.read_text()
    assert not lock.exists()


def test_an_abandoned_lock_is_taken_over_with_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging()
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / ".lock").write_text('{"pid": 4194304, "host": "here", "since": "2026-01-01 10:00:00"}')
    with claimed(toy(tmp_path), "float", resume=False, overwrite=False):
        pass
    expected = "w was in use by process 4194304 on here since 2026-01-01 10:00:00, which has ended: taken over"
    assert expected in capsys.readouterr().out


def test_hints_repeat_the_users_own_words(tmp_path: Path) -> None:
    path = tmp_path / "my toy.py"
    path.write_text(TOY)
    options = {"work_dir": "a place/w", "imgsz": (8, 16), "lr": 1e-3, "ckpt_dir": "it's here", "float_trainer.seed": 2}
    config = load_config(path, options)
    words = shlex.split(command_line(config, "float", "--resume"))
    assert words[:4] == ["python", "tools/train.py", "--stage", "float"]
    assert words[4:9] == ["--config", str(path), "--work-dir", "a place/w", "--resume"] and words[9] == "--cfg-options"
    rest = {key: value for key, value in options.items() if key != "work_dir"}
    assert parse_options(words[10:]) == rest
    with pytest.raises(UserError) as raised:
        train(config, "qat")
    assert command_line(config, "float") in str(raised.value)
