"""Pretraining a backbone on an image folder, by its commands, and a detector that loads the result."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from hatdet.building import Builder
from hatdet.config.load import load_config
from hatdet.quantization.loading import LoadCheckpoint

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "configs" / "classification" / "vargnetv2_imagenet.py"


def run(*arguments: str, cwd: Path) -> str:
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run([sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, env=env)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


@pytest.mark.slow
def test_a_backbone_is_pretrained_and_loaded(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 3)):
        for name, level in (("bright", 200), ("dark", 40)):
            (tmp_path / "set" / split / name).mkdir(parents=True)
            for i in range(count):
                picture = np.clip(rng.normal(level, 10, (40, 48, 3)), 0, 255).astype(np.uint8)
                cv2.imwrite(str(tmp_path / "set" / split / name / f"{i}.png"), picture)
        packer = str(ROOT / "tools" / "image_folder_packer.py")
        run(packer, "--src-data-dir", "set", "--target-data-dir", "packed", "--split-name", split, cwd=tmp_path)
    options = ["data_root=packed", "num_classes=2", "imgsz=(32,32)", "epochs=2", "batch_size=4", "workers=0"]
    options += ["work_dir=wd", "warmup_epochs=0.5"]
    train = str(ROOT / "tools" / "train.py")
    text = run(train, "--stage", "float", "--config", str(CONFIG), "--cfg-options", *options, cwd=tmp_path)
    assert "accuracy over 6 images: top1" in text
    config = load_config(CONFIG, {"num_classes": 2})
    backbone = {**config.model["backbone"], "include_top": False}
    detector = torch.nn.Module()
    detector.backbone = Builder().build(backbone, "backbone")
    file = str(tmp_path / "wd" / "float-checkpoint-best.pth.tar")
    LoadCheckpoint(checkpoint_path=file, allow_miss=False, ignore_extra=True)(detector)
    saved = torch.load(file, weights_only=True)["state_dict"]
    loaded = detector.state_dict()
    assert len(loaded) > 200 and all(torch.equal(loaded[name], saved[name]) for name in loaded)
