"""All stages of a head that shares its convolutions, with each of the ways to treat its batch norms."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.mini_coco import CONFIG, mini_coco

OPTIONS = [
    "share_conv=True", "imgsz=(64,64)", "epochs=1", "qat_epochs=1", "calibration_steps=2", "num_classes=2", "workers=0",
    "batch_size=4", "val_batch_size=4", "int16_output=True",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("qat_mode", ["fuse_bn", "with_bn"])
def test_from_training_to_a_file(qat_mode: str, tmp_path: Path, repo_root: Path) -> None:
    """The file has one weight for the levels and outputs of 16 bits, and scores what the integer model scores."""
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    data = mini_coco(tmp_path / "data", count=6)
    options = [*OPTIONS, f"qat_mode={qat_mode}", f"data_root={data}/"]

    def run(tool: str, *arguments: str) -> str:
        command = [sys.executable, str(repo_root / tool), *arguments, "--cfg-options", *options]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(repo_root)}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout + done.stderr

    config = ["--config", str(repo_root / CONFIG)]
    logs = {stage: run("tools/train.py", "--stage", stage, *config) for stage in ("float", "calibration", "qat")}
    assert ("batch normalizations stay alive" in logs["qat"]) == (qat_mode == "with_bn")
    text = run("tools/export.py", *config, "--stage", "int_infer", "--verify", "2", "--evaluate")
    assert "stored once" in text
    (path,) = tmp_path.glob("work_dirs/**/export-results.json")
    results = json.loads(path.read_text())
    assert results["parity"]["ok"] and results["evaluation"]["equal"]
    assert results["shared_weight_bytes_saved"] > 100_000
    metadata = json.loads(path.with_name("int_infer-model_int8.json").read_text())
    assert {output["dtype"] for output in metadata["outputs"]} == {"int16"}
