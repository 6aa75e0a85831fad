"""The notebook of the quick start runs, cell by cell, at a small size."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "docs" / "quickstart.ipynb"
SMALL = "IMAGES, EPOCHS, SIZE = 16, 2, 64"


def cells() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return found


def test_it_is_kept_without_outputs() -> None:
    code = [cell for cell in cells() if cell["cell_type"] == "code"]
    assert len(code) > 8
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert [cell["metadata"].get("tags") for cell in code].index(["parameters"]) == 0


@pytest.mark.slow
def test_every_cell_runs(tmp_path: Path) -> None:
    """In one process of its own, as a kernel would; outputs of the commands come through the cells' own prints."""
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    code = ["".join(cell["source"]) for cell in cells() if cell["cell_type"] == "code"]
    code[0] = re.sub(r"^IMAGES, EPOCHS, SIZE = .*$", SMALL, code[0])
    assert code[0] == SMALL
    script = tmp_path / "cells.py"
    script.write_text("\n\n".join(code), encoding="utf-8")
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HATDET_CACHE": str(tmp_path / "cache")}
    words = [sys.executable, str(script)]
    done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    work = tmp_path / "work_dirs" / "shapes_config"
    results = json.loads((work / "export-results.json").read_text())
    assert results["parity"]["ok"] and results["evaluation"]["equal"]
    assert results["parity"]["text"] in done.stdout
    assert list((tmp_path / "found").glob("*.jpg")) and (work / "qat-checkpoint-best.pth.tar").is_file()


@pytest.mark.slow
def test_it_runs_in_a_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to the config: the rest is the same there as in the test above."""
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    last = next(n for n, cell in enumerate(notebook.cells) if "hatdet(\"init" in cell.source)
    notebook.cells = notebook.cells[: last + 1]
    notebook.cells[1].source = SMALL
    place = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3", resources=place).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("image/jpeg" in output.get("data", {}) for output in outputs)
    assert any("_base_" in output.get("text", "") for output in outputs)
