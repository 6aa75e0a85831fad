"""The benchmark command runs its rows and writes their samples."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "run.py"), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.slow
def test_rows_of_the_network(tmp_path: Path) -> None:
    file = tmp_path / "speed.json"
    rows = ("train_step", "mixed_precision", "qat_step", "integer_executor")
    done = run("--rows", *rows, "--repeat", "1", "--json", str(file))
    assert done.returncode == 0, done.stderr
    content = {row["name"]: row for row in json.loads(file.read_text(encoding="utf-8"))}
    floats = [row + end for row in ("train_step", "mixed_precision") for end in ("", ", to its floor")]
    assert list(content) == [*floats, "qat_step, ranges moving", "qat_step, ranges frozen", "integer_executor"]
    assert all(len(row["hatdet"]) == len(row["baseline"]) == 1 and row["ratio"] > 0 for row in content.values())


def test_unknown_row() -> None:
    done = run("--rows", "train_stop")
    assert done.returncode == 2
    assert "train_step" in done.stderr
    assert "Traceback" not in done.stderr


def test_missing_data_folder(tmp_path: Path) -> None:
    done = run("--rows", "startup", "--data", str(tmp_path))
    assert done.returncode == 2
    assert "instances_train.json" in done.stderr
    assert "Traceback" not in done.stderr
