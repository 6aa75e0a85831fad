"""The command lines' shared helpers: arguments in any order, one clear line for an error, the exit status."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from hatdet.commands.shared.arguments import (
    add_config_arguments,
    config_path,
    load_from_args,
    make_parser,
    place_file_argument,
)
from hatdet.commands.shared.process import FIRST_OF_GROUP_S, describe, run
from hatdet.utils.errors import ConfigError, UserError, did_you_mean, nearest
from hatdet.utils.interruption import Terminated

ROOT = Path(__file__).parents[4]


def parse(*words: str) -> argparse.Namespace:
    parser = make_parser("A tool.")
    add_config_arguments(parser)
    parser.add_argument("checkpoint", nargs="?")
    parser.add_argument("--stage", choices=["float", "qat"], default="float")
    args: argparse.Namespace = parser.parse_args(list(words))
    return args


@pytest.mark.parametrize(
    "words",
    [
        ["c.py", "ckpt.pth", "--stage", "qat"],
        ["--stage", "qat", "c.py", "ckpt.pth"],
        ["c.py", "--stage", "qat", "ckpt.pth"],
        ["c.py", "ckpt.pth", "--cfg-options", "a=1", "b=2", "--stage", "qat"],
    ],
)
def test_positionals_stand_anywhere(words: list[str]) -> None:
    args = parse(*words)
    assert (config_path(args), args.checkpoint, args.stage) == ("c.py", "ckpt.pth", "qat")


def test_the_config_is_a_positional_or_a_flag_and_both_must_agree() -> None:
    assert config_path(parse("--config", "c.py")) == "c.py"
    assert config_path(parse("c.py", "--config", "./c.py")) == "c.py"
    with pytest.raises(UserError, match=r"two configs: 'c.py' and --config 'd.py'"):
        config_path(parse("c.py", "--config", "d.py"))
    with pytest.raises(UserError, match="no config file was given; give one"):
        config_path(parse())
    with pytest.raises(UserError, match=r"no config file was given; put c.py before --cfg-options"):
        config_path(parse("--cfg-options", "a=1", "c.py"))


def test_a_file_behind_the_config_may_stand_before_or_behind_the_flag() -> None:
    for words in (["--config", "c.py", "a.pth"], ["a.pth", "--config", "c.py"], ["c.py", "a.pth"]):
        args = parse(*words)
        place_file_argument(args, "checkpoint")
        assert (config_path(args), args.checkpoint) == ("c.py", "a.pth")
    args = parse("--config", "c.py")  # it may be left out
    place_file_argument(args, "checkpoint")
    assert (config_path(args), args.checkpoint) == ("c.py", None)
    args = parse("d.py", "--config", "c.py")
    place_file_argument(args, "checkpoint")
    with pytest.raises(UserError, match=r"two configs: 'd.py' and --config 'c.py'"):
        config_path(args)


def test_load_from_args_applies_options_and_work_dir(tmp_path: Path) -> None:
    (tmp_path / "c.py").write_text("n = 1\nlog = work_dir + '/log'\nm = n * 2\n")
    words = ["--cfg-options", "n=4", "--cfg_options", "log=x"]
    config = load_from_args(parse(str(tmp_path / "c.py"), "--work_dir", "out", *words))
    assert (config.m, config.log, config.work_dir) == (8, "x", "out")
    assert load_from_args(parse(str(tmp_path / "c.py"))).log == "work_dirs/c/log"


def test_an_unknown_flag_is_told_with_the_nearest_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse("c.py", "--cfg-option", "a=1")
    assert caught.value.code == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "unrecognized arguments: --cfg-option" in message
    assert "did you mean '--cfg-options'?" in message
    with pytest.raises(SystemExit):
        parse("c.py", "--stag=qat")
    assert "did you mean '--stage'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (UserError("too few classes"), 2, "error: too few classes"),
        (ConfigError("c.py: 2 problems:\n  a: b\n  c: d"), 2, "error: c.py: 2 problems:\n  a: b\n  c: d"),
        (FileNotFoundError(2, "No such file", "x.json"), 2, "error: no such file or directory: x.json"),
        (
            PermissionError(13, "denied", "x.json"),
            2,
            "error: permission denied: x.json; change its rights, or name another place",
        ),
        (
            NotADirectoryError(20, "Not a directory", "a/b"),
            2,
            "error: Not a directory: a/b; a part of this path is a file; name a folder",
        ),
        (
            OSError(28, "No space left on device"),
            2,
            "error: No space left on device; free some space, or write elsewhere (--work-dir DIR)",
        ),
        (KeyboardInterrupt(), 130, "interrupted; start it again with the same command"),
        (KeyboardInterrupt("nothing is saved"), 130, "interrupted; nothing is saved"),
        (Terminated(15), 143, "interrupted (SIGTERM); start it again with the same command"),
        (Terminated(1, "epoch 2 is saved"), 129, "interrupted (SIGHUP); epoch 2 is saved"),
    ],
)
def test_run_prints_one_message_and_no_traceback(
    error: BaseException,
    status: int,
    text: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def main(argv: object = None) -> None:
        raise error

    monkeypatch.delenv("HATDET_TRACEBACK", raising=False)
    monkeypatch.setattr(sys, "argv", ["tools/train.py"])
    with pytest.raises(SystemExit) as caught:
        run(main)
    assert caught.value.code == status
    assert capsys.readouterr().err == f"train.py: {text}\n"
    monkeypatch.setenv("HATDET_TRACEBACK", "1")
    with pytest.raises(SystemExit):
        run(main)
    shown = capsys.readouterr().err
    assert shown.startswith("Traceback")
    assert shown.endswith(f"train.py: {text}\n")


def test_an_error_of_a_whole_group_is_read_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every process has it; while the others hold it back torchrun ends them, as one of the group has failed."""

    def main(argv: object = None) -> None:
        raise UserError("too few classes; add one")

    read_after = {}
    waited: list[float] = []
    monkeypatch.setattr("time.sleep", waited.append)
    monkeypatch.setattr(sys, "argv", ["tools/train.py"])
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        waited.clear()
        with pytest.raises(SystemExit) as caught:
            run(main)
        assert caught.value.code == 2
        assert capsys.readouterr().err == "train.py: error: too few classes; add one\n"
        read_after[rank] = list(waited)
    assert read_after == {"0": [], "1": [FIRST_OF_GROUP_S]}


def test_run_passes_the_status_on_and_leaves_defects_alone() -> None:
    for value, status in ((None, 0), (0, 0), (3, 3)):
        with pytest.raises(SystemExit) as caught:
            run(lambda argv=None, value=value: value)
        assert caught.value.code == status

    def broken(argv: object = None) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(broken)


def test_notes_are_part_of_the_message() -> None:
    error = UserError("no checkpoint")
    error.add_note("while building float_trainer")
    assert describe(error) == "no checkpoint (while building float_trainer)"


def test_a_broken_pipe_is_quiet() -> None:
    code = (
        "from hatdet.commands.shared.process import run\n"
        "def main(argv=None):\n"
        "    for i in range(200000): print('a line that fills the pipe', i)\n"
        "run(main)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait() == 141


def test_nearest_and_did_you_mean() -> None:
    assert nearest("Num_Clases", ["num_classes", "classes"]) == ["num_classes"]
    assert did_you_mean("zzz", ["num_classes"]) == ""
    assert did_you_mean("modle", ["model"]) == "; did you mean 'model'?"


def test_a_file_name_of_bytes_is_written_as_text() -> None:
    assert describe(FileNotFoundError(2, "No such file or directory", b"/x/events")) == (
        "no such file or directory: /x/events"
    )


def test_a_thread_that_meets_a_full_disk_prints_no_traceback(tmp_path: Path) -> None:
    """TensorBoard writes in a thread, and its writer raises the thread's error again."""
    code = (
        "import threading\n"
        "from hatdet.commands.shared.process import run\n"
        "def fail(error):\n"
        "    raise error\n"
        "def main(argv):\n"
        "    for error in (OSError(28, 'No space left on device'), ZeroDivisionError('a defect')):\n"
        "        thread = threading.Thread(target=fail, args=(error,))\n"
        "        thread.start()\n"
        "        thread.join()\n"
        "run(main)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "No space" not in done.stderr
    assert "ZeroDivisionError: a defect" in done.stderr


@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_signal_where_python_drops_exceptions_is_not_lost(name: str, status: int) -> None:
    """In a destructor here; between the forks of the data workers in a command."""
    code = (
        "import os, signal, time\n"
        "from hatdet.commands.shared.process import run\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "class Noisy:\n"
        "    def __del__(self):\n"
        f"        os.kill(os.getpid(), signal.{name})\n"
        "        time.sleep(0.01)\n"
        "def main(argv):\n"
        "    Noisy()\n"
        "    time.sleep(20)\n"
        "run(main)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == status
    assert done.stderr.count("\n") == 1 and "interrupted" in done.stderr
