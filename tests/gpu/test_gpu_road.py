"""All stages on a GPU, with the commands' own functions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hatdet.utils.checkpoint import load_checkpoint
from tests.integration.mini_coco import mini_coco

CONFIG = "configs/rtmdet/rtmdet_nano_ncadc_relu6_small_data.py"


def command(repo_root: Path, folder: Path, *words: str) -> str:
    """Run a tool in ``folder``; returns what it printed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(repo_root), environment.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=400
    )
    text = done.stdout + done.stderr
    assert done.returncode == 0, f"{words}\n{text[-3000:]}"
    return text


def options(folder: Path, *more: str) -> list[str]:
    data = f"data_root={folder / 'coco'}"
    return ["--cfg-options", data, "num_classes=2", "imgsz=(64,64)", "epochs=2", "workers=0", "qat_epochs=1", *more]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, repo_root: Path) -> Path:
    """A folder in which float, calibration and QAT ran on the GPU."""
    folder = tmp_path_factory.mktemp("gpu")
    mini_coco(folder / "coco")
    for stage in ("float", "calibration", "qat"):
        said = command(
            repo_root, folder, str(repo_root / "tools/train.py"), str(repo_root / CONFIG), "--stage", stage,
            *options(folder, "device=cuda"),
        )  # fmt: skip
        assert "cuda:0" in said
    return folder


def predicted(repo_root: Path, folder: Path, stage: str, device: str) -> dict[str, float]:
    command(
        repo_root, folder, str(repo_root / "tools/predict.py"), str(repo_root / CONFIG), "--stage", stage,
        *options(folder, f"device={device}"),
    )  # fmt: skip
    file = folder / "work_dirs" / Path(CONFIG).stem / stage / "predict.json"
    metrics: dict[str, float] = json.loads(file.read_text())["metrics"]
    return metrics


def validated(folder: Path, stage: str) -> dict[str, float]:
    """What the training of the stage's best checkpoint measured."""
    best = load_checkpoint(folder / "work_dirs" / Path(CONFIG).stem / f"{stage}-checkpoint-best.pth.tar")
    return dict(best["metrics"])


def test_the_integer_model_scores_the_same_on_both_devices(trained: Path, repo_root: Path) -> None:
    on_cpu = predicted(repo_root, trained, "int_infer", "cpu")
    on_gpu = predicted(repo_root, trained, "int_infer", "cuda")
    qat = predicted(repo_root, trained, "qat", "cuda")
    assert on_cpu == on_gpu == qat
    assert validated(trained, "qat") == qat


def test_a_stage_scores_what_its_training_printed(trained: Path, repo_root: Path) -> None:
    for stage in ("float", "calibration"):
        assert predicted(repo_root, trained, stage, "cuda") == validated(trained, stage)


def test_float16_training_kept_its_scaler_and_finite_weights(trained: Path) -> None:
    last = load_checkpoint(trained / "work_dirs" / Path(CONFIG).stem / "float-checkpoint-last.pth.tar")
    assert last["batch_processor"]["scaler"]["scale"] > 0
    assert all(value.isfinite().all() for value in last["state_dict"].values() if value.is_floating_point())


@pytest.mark.parametrize("more", [["amp=None"], ["multi_scale=(0.5,1.0)", "late_epochs=1"]])
def test_float_training_with(more: list[str], tmp_path: Path, repo_root: Path) -> None:
    mini_coco(tmp_path / "coco")
    command(
        repo_root, tmp_path, str(repo_root / "tools/train.py"), str(repo_root / CONFIG), "--stage", "float",
        *options(tmp_path, "device=cuda", *more),
    )  # fmt: skip
    last = load_checkpoint(tmp_path / "work_dirs" / Path(CONFIG).stem / "float-checkpoint-last.pth.tar")
    assert all(value.isfinite().all() for value in last["state_dict"].values() if value.is_floating_point())


def test_one_process_of_nccl_with_synchronized_norms(tmp_path: Path, repo_root: Path) -> None:
    mini_coco(tmp_path / "coco")
    said = command(
        repo_root, tmp_path, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1",
        str(repo_root / "tools/train.py"), str(repo_root / CONFIG), "--stage", "float", "--launcher", "pytorch",
        *options(tmp_path),
    )  # fmt: skip
    assert "cuda:0" in said


def test_exported_file_is_the_model_that_was_trained_here(trained: Path, repo_root: Path) -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    command(
        repo_root, trained, str(repo_root / "tools/export.py"), str(repo_root / CONFIG), "--verify", "8",
        *options(trained, "device=cuda"),
    )  # fmt: skip
    results = json.loads((trained / "work_dirs" / Path(CONFIG).stem / "export-results.json").read_text())
    assert results["parity"]["ok"] and results["parity"]["differing"] == 0
    assert torch.cuda.is_available()
