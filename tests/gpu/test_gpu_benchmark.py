"""The benchmark's own checks hold on a GPU: suppression, a captured executor, mixed precision, norms, resuming."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory, repo_root: Path) -> dict[str, dict[str, object]]:
    file = tmp_path_factory.mktemp("gpu") / "rows.json"
    words = ["--tiny", "--seconds", "300", "--rows", "check", "--json", str(file)]
    command = [sys.executable, str(repo_root / "benchmarks/gpu.py"), *words]
    subprocess.run(command, cwd=repo_root, capture_output=True, text=True, timeout=400, check=False)
    return {row["row"].removeprefix("check "): row for row in json.loads(file.read_text())["rows"]}


@pytest.mark.parametrize(
    "name",
    "integers,captured executor,suppression,augmentation,resume,synchronized norms,bfloat16,float16".split(","),
)
def test_check(name: str, rows: dict[str, dict[str, object]]) -> None:
    assert rows[name]["state"] == "ok", rows[name]
