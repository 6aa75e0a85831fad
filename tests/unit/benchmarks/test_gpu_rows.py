"""Rows that are isolated: each ends in its time, whatever happens in it; and the GPU's rows tried on the CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.on_gpu.isolated import Skipped, Task, markdown, run

ROOT = Path(__file__).resolve().parents[3]


def fine() -> dict[str, Any]:
    return {"images_per_s": 1234.5, "ratio": 0.5}


def different() -> dict[str, Any]:
    return {"equal": False}


def skipped() -> dict[str, Any]:
    raise Skipped("no GPU")


def broken() -> dict[str, Any]:
    raise RuntimeError("a kernel failed | here\nmore")


def killed() -> dict[str, Any]:
    os._exit(3)


def endless() -> dict[str, Any]:
    time.sleep(60)
    return {}


def test_every_row_is_told_and_the_next_goes_on() -> None:
    calls = (fine, different, skipped, broken, killed, endless, fine)
    begin = time.monotonic()
    rows = list(run([Task(call.__name__, 2.0 if call is endless else 20.0, call) for call in calls], 120.0))
    assert time.monotonic() - begin < 55
    states = ["ok", "differs", "skipped", "failed", "failed", "too long", "ok"]
    assert [(row["row"], row["state"]) for row in rows] == [(c.__name__, s) for c, s in zip(calls, states, strict=True)]
    assert rows[2]["why"] == "no GPU" and rows[4]["why"] == "the process ended with status 3"
    assert rows[3]["why"] == "RuntimeError: a kernel failed | here"
    table = markdown(rows).splitlines()
    assert table[2].startswith("| fine | ok | 1234 |  | 0.5 |") and "failed / here" in table[5]


def test_rows_without_time_left_say_so() -> None:
    assert [row["state"] for row in run([Task("fine", 5.0, fine), Task("fine", 5.0, fine)], 0.0)] == 2 * ["no time"]


@pytest.mark.parametrize(
    ("rows", "states"),
    [
        (
            ["captured", "suppression", "augmentation", "check float16"],
            {"check captured executor": "skipped", "check float16": "skipped"},
        ),
        pytest.param(["check", "launches", "data", "qat", "executor", "train", "device"], None, marks=pytest.mark.slow),
    ],
    ids=["quick", "all"],
)
def test_dry_run_on_the_cpu(rows: list[str], states: dict[str, str] | None, tmp_path: Path) -> None:
    files = ["--json", str(tmp_path / "gpu.json"), "--markdown", str(tmp_path / "gpu.md")]
    command = [sys.executable, "benchmarks/gpu.py", "--device", "cpu", "--tiny", "--seconds", "1500", "--rows", *rows]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, *files], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1600)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    found = json.loads((tmp_path / "gpu.json").read_text())["rows"]
    assert all(row["state"] in ("ok", "skipped") for row in found), found
    if states is not None:
        assert len(found) == 4
        assert {row["row"]: row["state"] for row in found if row["state"] != "ok"} == states
    assert (tmp_path / "gpu.md").read_text().count("\n") == len(found) + 2
