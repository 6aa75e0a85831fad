"""What a machine may lack or do, as a user of the commands meets it: one line, the right status, no traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hatdet.config.load import load_config
from hatdet.utils.errors import ConfigError
from hatdet.utils.faults import explain, worker_killed

ROOT = Path(__file__).resolve().parents[2]
START = "from hatdet.commands.shared.process import run\nimport os, sys, time, signal\n"


def command(body: str, **settings: object) -> subprocess.CompletedProcess[bytes]:
    """A command of the toolbox whose main function does ``body``."""
    code = START + "def main(argv=None):\n" + "".join(f"    {line}\n" for line in body.splitlines()) + "run(main)\n"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **settings.pop("env", {})}  # type: ignore[dict-item]
    settings.setdefault("stdout", subprocess.PIPE)
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE, timeout=60, check=False, **settings
    )  # type: ignore[call-overload,no-any-return]


@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_ends_any_command_with_its_status_and_cleans_up(tmp_path: Path, name: str, status: int) -> None:
    body = f"try: os.kill(os.getpid(), signal.{name}); time.sleep(9)\nfinally: print('cleaned')"
    done = command(body)
    assert done.returncode == status and done.stdout == b"cleaned\n"
    assert done.stderr.decode() == f"-c: interrupted ({name}); start it again with the same command\n"


def test_a_signal_reaches_subprocesses_as_the_system_sends_it() -> None:
    """A child that was forked does not run the parent's clean-up."""
    body = (
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    try: os.kill(os.getpid(), signal.SIGTERM); time.sleep(9)\n"
        "    finally: print('cleaned', flush=True)\n"
        "print(os.WTERMSIG(os.waitpid(pid, 0)[1]))"
    )
    assert command(body).stdout == b"15\n"


def test_output_that_nobody_can_read() -> None:
    with open("/dev/full", "wb") as full:
        done = command("print('x')", stdout=full)
    assert done.returncode == 2
    assert done.stderr == b"-c: error: No space left on device; free some space, or write elsewhere (--work-dir DIR)\n"


def test_output_that_was_closed_before_the_start() -> None:
    code = START + "def main(argv=None): print('x'); print('y', file=sys.stderr)\nrun(main)\n"
    shell = f'exec "{sys.executable}" -c "$CODE" >&- 2>&-'
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CODE": code}
    assert subprocess.run(["bash", "-c", shell], env=environment, timeout=60, check=False).returncode == 0


def test_names_that_the_terminal_cannot_show_are_escaped() -> None:
    """An ASCII terminal, and a file name whose bytes are not text."""
    done = command(r"print('d\xe4t\udcff')", env={"PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stdout, done.stderr) == (0, b"d\\xe4t\\udcff\n", b"")
    done = command(r"print('d\xe4t\udcff')", env={"PYTHONIOENCODING": "utf-8"})
    assert (done.returncode, done.stdout) == (0, "dät\\udcff\n".encode())


def test_a_pipe_that_ctrl_c_closed_as_well_does_not_change_the_status() -> None:
    """``train.py | tee log``: both get Ctrl-C; what is still printed must not become another error."""
    code = START + (
        "import logging\n"
        "from hatdet.utils.interruption import Interruption\n"
        "from hatdet.utils.logging import setup_logging\n"
        "def main(argv=None):\n"
        "    ask = Interruption()\n"
        "    with ask.deferred():\n"
        "        print('ready', flush=True)\n"
        "        while not ask.requested: time.sleep(0.01)\n"
        "        for i in range(3): setup_logging().info('a line'); time.sleep(0.05)\n"
        "        raise ask.error('epoch 1 is saved')\n"
        "run(main)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline() == b"ready\n"
    process.stdout.close()
    process.send_signal(signal.SIGINT)
    lines = process.stderr.read().decode().splitlines()
    process.stderr.close()
    assert process.wait() == 130
    assert lines == [
        "SIGINT: ending after this step; a second signal ends at once",
        "-c: interrupted; epoch 1 is saved",
    ]


def test_a_fault_of_the_machine_is_one_line_and_status_2() -> None:
    done = command("bytearray(10**15)")
    assert done.returncode == 2
    assert done.stderr.decode() == (
        "-c: error: no memory left; a smaller batch_size, imgsz or number of workers needs less (--cfg-options "
        "batch_size=4 workers=1); an interrupted training goes on with --resume\n"
    )


def test_a_defect_keeps_its_traceback() -> None:
    done = command("1 / 0")
    assert done.returncode == 1 and b"ZeroDivisionError" in done.stderr


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (MemoryError(), "no memory left; a smaller batch_size"),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: "
                         "you tried to allocate 4294967296 bytes. Error code 12 (Cannot allocate memory)"),
            "no memory left (4.0 GiB were asked for); a smaller batch_size, imgsz or number of workers",
        ),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 7.7"),
            "the GPU has no memory left (2.5 GiB were asked for); a smaller batch_size, imgsz",
        ),
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might"), "the GPU has no memory left; a smaller"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), "the GPU has no memory left; a smaller"),
        (OSError(12, "Cannot allocate memory"), "Cannot allocate memory; a smaller batch_size"),
        (OSError(24, "Too many open files", "a.jpg"), "Too many open files: a.jpg; raise the limit (ulimit -n 65536)"),
        (RuntimeError("received 0 items of ancdata"), "too many open files; raise the limit"),
        (OSError(30, "Read-only file system", "wd"), "Read-only file system: wd; write elsewhere (--work-dir DIR)"),
        (FileExistsError(17, "File exists", "wd"), "File exists: wd; there is a file of that name; name a folder"),
        (OSError(122, "Disk quota exceeded", "wd/x"), "Disk quota exceeded: wd/x; free some space, or write elsewhere"),
        (OSError(5, "Input/output error", "a"), "Input/output error: a; the disk or the network drive fails"),
        (BlockingIOError(11, "Resource temporarily unavailable"), "Resource temporarily unavailable; the limit on"),
        (RuntimeError("can't start new thread"), "no new thread can be started; the limit on processes (ulimit -u)"),
        (RuntimeError("[/pytorch/gloo/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:1"), "another process of"),
    ],
)
def test_faults_are_told_with_what_to_do(error: BaseException, text: str) -> None:
    found = explain(error)
    assert found is not None and found.startswith(text) and "\n" not in found


@pytest.mark.parametrize("error", [ValueError("x"), RuntimeError("shape '[2]' is invalid"), OSError("x"), KeyError(1)])
def test_other_errors_are_not_explained_away(error: BaseException) -> None:
    assert explain(error) is None


def test_signals_of_workers_have_names() -> None:
    assert worker_killed(7, signal.SIGABRT).startswith("data worker 7 was killed (SIGABRT); workers=0 shows the fault")


# ----------------------------------------------------------------------------------------------------------- configs
def test_a_config_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    (tmp_path / "c.py").write_bytes(b"\xef\xbb\xbfnum = 3\n")
    assert load_config(tmp_path / "c.py").num == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'name = "\xe4"\n', "c.py is not a Python file: byte 8 is not UTF-8 text; save it as UTF-8"),
        (b"\xff\xfex\x00=\x001\x00", "c.py is not a Python file: byte 0 is not UTF-8 text; save it as UTF-8"),
        (b"x = 1\x00\n", "null bytes"),
    ],
)
def test_a_config_in_another_encoding(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "c.py").write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(tmp_path / "c.py")
    assert "None" not in str(caught.value)


def test_a_work_dir_that_is_a_file_names_it() -> None:
    done = command("from pathlib import Path; Path('/dev/null/wd').mkdir(parents=True)")
    assert done.returncode == 2
    assert done.stderr == b"-c: error: Not a directory: /dev/null/wd; a part of this path is a file; name a folder\n"
