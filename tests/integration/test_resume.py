"""A training that is killed at any moment and resumed ends with the weights of an uninterrupted one, bit for bit."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from hatdet.config.load import load_config
from hatdet.engine.checkpoints.provenance import file_digest
from hatdet.utils.checkpoints.checkpoint import load_checkpoint
from tests.integration.mini_coco import mini_coco

CONFIG = "configs/rtmdet/rtmdet_nano_ncadc_relu6_small_data.py"

# What runs in the child: a callback and a patched rename kill the process in the step, and at the place, given by
# HATDET_TEST_KILL="step place".
KILLER = """
import os, signal, sys
sys.path.insert(0, {root!r})
import torch
torch.set_num_threads(1)
from hatdet.engine.loop import Loop
from hatdet.utils.checkpoints import checkpoint

step, place = os.environ.get("HATDET_TEST_KILL", "-1 none").split()
emit, replace, at = Loop.emit, os.replace, [-1]

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def emit_or_die(self, event, *rest):
    at[0] = self.progress.step
    if event == place and at[0] == int(step):
        die()
    emit(self, event, *rest)

def replace_or_die(source, target):
    if place == "rename" and at[0] == int(step) and "-last" in str(target):
        die()
    replace(source, target)

Loop.emit = emit_or_die
checkpoint.os.replace = replace_or_die
"""

TOY = KILLER + "from tests.unit.engine import toy\nsys.argv = ['toy', *sys.argv[1:]]\ntoy.main()\n"
REAL = KILLER + """
import runpy
sys.argv = sys.argv[1:]
sys.path.insert(0, os.path.dirname(sys.argv[0]))  # as the interpreter does for a script
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run(script: str, root: Path, *arguments: str, kill: tuple[int, str] | None = None, **environment: str) -> int:
    settings = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", **environment}
    if kill is not None:
        settings["HATDET_TEST_KILL"] = f"{kill[0]} {kill[1]}"
    command = [sys.executable, "-c", script.format(root=str(root)), *arguments]
    done = subprocess.run(command, env=settings, cwd=root, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == (0 if kill is None else -signal.SIGKILL), done.stdout[-3000:] + done.stderr[-3000:]
    return done.returncode


def differences(a: Any, b: Any, path: str = "") -> list[str]:
    """Where two checkpoints are not identical."""
    if isinstance(a, torch.Tensor):
        same = isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
        return [] if same else [path]
    if isinstance(a, dict):
        if a.keys() != b.keys():
            return [f"{path}: keys"]
        return [found for key in a for found in differences(a[key], b[key], f"{path}/{key}")]
    if isinstance(a, (list, tuple)):
        if len(a) != len(b):
            return [f"{path}: length"]
        return [found for i, pair in enumerate(zip(a, b, strict=True)) for found in differences(*pair, f"{path}/{i}")]
    return [] if a == b or a != a else [path]


def assert_same(a: Path, b: Path, besides: Sequence[str] = ()) -> None:
    left, right = load_checkpoint(a), load_checkpoint(b)
    for part in ("state_dict", "raw_state_dict", "optimizer", "progress", "callbacks", "metrics", "rng"):
        assert [name for name in differences(left.get(part), right.get(part), part) if name not in besides] == []


@pytest.mark.slow
def test_toy_killed_at_random_steps(tmp_path: Path, repo_root: Path) -> None:
    """Two workers, augmentation, dropout, EMA; 8 steps an epoch, 4 epochs; killed three times on the way."""
    run(TOY, repo_root, str(tmp_path / "whole"))
    chance = random.Random(2024)
    steps = sorted(chance.sample(range(1, 31), 3))
    places = chance.sample(["on_batch_begin", "on_step_end", "rename"], 3)
    for kill in zip(steps, places, strict=True):
        run(TOY, repo_root, str(tmp_path / "killed"), kill=kill)
    run(TOY, repo_root, str(tmp_path / "killed"))
    for name in ("last", "best"):
        file = f"float-checkpoint-{name}.pth.tar"
        assert_same(tmp_path / "whole" / file, tmp_path / "killed" / file)
    assert not [name for name in os.listdir(tmp_path / "killed") if name.endswith(".tmp")]


def train(
    root: Path,
    stage: str,
    data: Path,
    work: Path,
    *flags: str,
    ckpt: Path,
    kill: tuple[int, str] | None = None,
    given: dict[str, Any] | None = None,
) -> None:
    callbacks = load_config(root / CONFIG, given)[f"{stage}_trainer"]["callbacks"]
    index = [callback["type"] for callback in callbacks].index("Checkpoint")
    options = {
        "data_root": data,
        "work_dir": work,
        "ckpt_dir": ckpt,
        "num_classes": 2,
        "imgsz": "(64,64)",
        "epochs": 4,
        "qat_epochs": 2,
        "batch_size": 4,
        "workers": 2,
        "warmup_steps": 3,
        "val_interval": 2,
        # Of the recipe: limited gradients, bfloat16 where there is such, rare classes more often.
        "multi_scale": "(0.5,1.0)",
        "random_pop": "True",
        "mixup_prob": "0.5",
        f"{stage}_trainer.callbacks.{index}.save_last_every_steps": 1,
        **(given or {}),
    }
    words = [f"{key}={value}" for key, value in options.items()]
    arguments = ["tools/train.py", "--stage", stage, "--config", CONFIG, *flags, "--cfg-options", *words]
    run(REAL, root, *arguments, kill=kill, HATDET_CACHE=str(data / "cache"))


@pytest.mark.slow
def test_a_student_killed_beside_its_teacher(tmp_path: Path, repo_root: Path) -> None:
    """Of a teacher of another width, whose adapters train along, in float; of the float model in QAT."""
    data, teacher = mini_coco(tmp_path / "data"), tmp_path / "teacher"
    train(repo_root, "float", data, teacher, ckpt=teacher)
    best = teacher / "float-checkpoint-best.pth.tar"
    given = {"teacher": best, "teacher_feature_weight": 1.0, "widen_factor": 0.125, "qat_teacher": "float"}
    a, b = tmp_path / "a", tmp_path / "b"
    train(repo_root, "float", data, a, ckpt=a, given=given)
    train(repo_root, "float", data, b, ckpt=b, given=given, kill=(5, "on_step_end"))
    train(repo_root, "float", data, b, "--resume", ckpt=b, given=given)
    assert_same(a / "float-checkpoint-last.pth.tar", b / "float-checkpoint-last.pth.tar")
    state = load_checkpoint(a / "float-checkpoint-best.pth.tar")
    assert len(state["callbacks"]["Distillation"]["adapters"]) == 3
    assert state["run"]["teacher"]["digest"] == file_digest(best)
    for work in (a, b):
        train(repo_root, "calibration", data, work, ckpt=work, given=given)
    train(repo_root, "qat", data, a, ckpt=a, given=given)
    train(repo_root, "qat", data, b, ckpt=b, given=given, kill=(4, "on_batch_begin"))
    train(repo_root, "qat", data, b, "--resume", ckpt=b, given=given)
    own = [f"callbacks/Distillation/teacher/{name}" for name in ("file", "id")]  # each run's float model
    assert_same(a / "qat-checkpoint-last.pth.tar", b / "qat-checkpoint-last.pth.tar", besides=own)
    assert "loss_kd_cls" in (a / "qat" / "results.csv").read_text()


@pytest.mark.slow
def test_nano_killed_in_float_and_qat(tmp_path: Path, repo_root: Path) -> None:
    """RTMDet-nano at 64 px with Mosaic, MixUp, two workers, EMA and batches of two sizes: 3 steps an epoch, 4 epochs
    float, 2 epochs QAT."""
    data, a, b = mini_coco(tmp_path / "data"), tmp_path / "a", tmp_path / "b"
    train(repo_root, "float", data, a, ckpt=a)
    for kill in ((4, "on_step_end"), (8, "rename")):
        train(repo_root, "float", data, b, "--resume", ckpt=b, kill=kill)
    train(repo_root, "float", data, b, "--resume", ckpt=b)
    for name in ("last", "best"):
        assert_same(a / f"float-checkpoint-{name}.pth.tar", b / f"float-checkpoint-{name}.pth.tar")
    train(repo_root, "qat", data, a, ckpt=a)
    train(repo_root, "qat", data, b, ckpt=b, kill=(4, "on_batch_begin"))  # after the ranges were frozen, at step 2
    train(repo_root, "qat", data, b, "--resume", ckpt=b)
    assert_same(a / "qat-checkpoint-last.pth.tar", b / "qat-checkpoint-last.pth.tar")
    rows = [(folder / "float" / "results.csv").read_text().splitlines() for folder in (a, b)]
    assert [row.split(",")[:2] for row in rows[0]] == [row.split(",")[:2] for row in rows[1]]
