"""A classifier by its commands: float, calibration, QAT, the integer model, the file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "configs" / "classification" / "vargnetv2_imagenet.py"
OPTIONS = [
    "data_root=packed", "num_classes=2", "imgsz=(32,32)", "epochs=16", "qat_epochs=1", "calibration_step=2",
    "batch_size=4", "workers=0", "work_dir=wd", "warmup_epochs=0.5", "qat_lr=0.01",
]  # fmt: skip


def run(tool: str, *arguments: str, cwd: Path) -> str:
    command = [sys.executable, str(ROOT / "tools" / f"{tool}.py"), *arguments]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=env)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


@pytest.mark.slow
def test_a_classifier_goes_the_whole_road(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 3)):
        for name, level in (("bright", 200), ("dark", 40)):
            (tmp_path / "set" / split / name).mkdir(parents=True)
            for i in range(count):
                picture = np.clip(rng.normal(level, 10, (40, 48, 3)), 0, 255).astype(np.uint8)
                cv2.imwrite(str(tmp_path / "set" / split / name / f"{i}.png"), picture)
        words = ["--src-data-dir", "set", "--target-data-dir", "packed", "--split-name", split]
        run("image_folder_packer", *words, cwd=tmp_path)
    for stage in ("float", "calibration", "qat"):
        text = run("train", "--stage", stage, "--config", str(CONFIG), "--cfg-options", *OPTIONS, cwd=tmp_path)
        assert "accuracy over 6 images: top1" in text and "no step was taken" not in text, text
    run("predict", "--stage", "int_infer", "--config", str(CONFIG), "--cfg-options", *OPTIONS, cwd=tmp_path)
    text = run("export", str(CONFIG), "--evaluate", "--cfg-options", *OPTIONS, cwd=tmp_path)
    assert "0 differing (torch = LiteRT reference" in text
    results = json.loads((tmp_path / "wd" / "export-results.json").read_text())
    assert results["evaluation"]["equal"] and results["evaluation"]["tflite"]["top1"] >= 0.5
    assert (tmp_path / "wd" / "int_infer-model_int8.tflite").is_file()
