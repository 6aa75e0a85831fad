"""Locks between processes: who holds them, who waits, and that they end with their holder."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hatdet.utils.errors import UserError
from hatdet.utils.locks import LockHeldError, is_held, locked_file

ROOT = Path(__file__).parents[3]
HOLD = """
import sys, time
from pathlib import Path
from hatdet.utils.locks import locked_file
with locked_file(Path(sys.argv[1]), "the box"):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def hold(path: Path, seconds: float) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), str(seconds)], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_waiting_says_for_whom_after_a_second(tmp_path: Path) -> None:
    lock, lines = tmp_path / "x.lock", []
    process = hold(lock, 1.6)
    begin = time.monotonic()
    with locked_file(lock, "the box", log=lines.append):
        assert time.monotonic() - begin > 1
    process.wait()
    [line] = lines
    assert line.startswith(f"waiting for the box: process {process.pid} on {socket.gethostname()} since 20")
    assert not lock.exists()


def test_a_short_wait_is_not_worth_a_line_and_a_free_lock_no_wait(tmp_path: Path) -> None:
    lines: list[str] = []
    process = hold(tmp_path / "x.lock", 0.3)
    for _ in range(2):
        with locked_file(tmp_path / "x.lock", "the box", log=lines.append):
            pass
    process.wait()
    assert not lines


def test_without_waiting_the_holder_is_named_and_a_killed_one_holds_nothing(tmp_path: Path) -> None:
    lock = tmp_path / "x.lock"
    process = hold(lock, 60)
    message = f"the box is in use by process {process.pid} on "
    assert is_held(lock)
    with pytest.raises(LockHeldError, match=message), locked_file(lock, "the box", wait=False):
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert lock.exists() and not is_held(lock) and not is_held(tmp_path / "none")
    with locked_file(lock, "the box", wait=False):
        assert f'"pid": {os.getpid()}' in lock.read_text()
    assert not lock.exists()


FORK = """
import os, sys, time
from pathlib import Path
from hatdet.utils.locks import locked_file, release_inherited
with locked_file(Path(sys.argv[1]), "the box"):
    child = os.fork()
    if child == 0 and sys.argv[2] == "release":
        release_inherited()
    os.write(1, f"{child}{os.linesep}".encode())
    time.sleep(60)
"""


@pytest.mark.parametrize("how", ["release", "keep"])
def test_a_forked_process_that_lets_go_does_not_hold_the_lock_of_its_dead_parent(tmp_path: Path, how: str) -> None:
    lock = tmp_path / "x.lock"
    command = [sys.executable, "-c", FORK, str(lock), how]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert parent.stdout is not None
    child = max(int(parent.stdout.readline()) for _ in range(2))  # the child itself prints 0
    parent.kill()
    parent.wait()
    try:
        if how == "release":
            with locked_file(lock, "the box", wait=False):
                pass
        else:  # what happens to those who forget it
            with pytest.raises(LockHeldError), locked_file(lock, "the box", wait=False):
                pass
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    lock = tmp_path / "no" / "x.lock"
    with pytest.raises(UserError, match=r"cannot write to .*/no: No such file"), locked_file(lock, "the box"):
        pass
