"""All stages on a GPU, with the commands' own functions, in this process: a new one takes 20 s to begin."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hatdet.utils.checkpoints.checkpoint import load_checkpoint
from tests.integration.mini_coco import mini_coco

CONFIG = "configs/rtmdet/rtmdet_nano_ncadc_relu6_small_data.py"
Command = Callable[..., Path]


def options(folder: Path, *more: str) -> list[str]:
    data = f"data_root={folder / 'coco'}"
    return ["--cfg-options", data, "num_classes=2", "imgsz=(64,64)", "epochs=2", "workers=0", "qat_epochs=1", *more]


@pytest.fixture(scope="session")
def command(tool: Callable[[str], Callable[[list[str]], int | None]], repo_root: Path) -> Command:
    """``command(name, folder, words, options)`` runs a tool in ``folder``; gives the work dir."""

    def call(name: str, folder: Path, words: list[str], *more: str) -> Path:
        with contextlib.chdir(folder):
            assert not tool(name)([str(repo_root / CONFIG), *words, *options(folder, *more)])
        return folder / "work_dirs" / Path(CONFIG).stem

    return call


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, command: Command) -> Path:
    """A folder in which float, calibration and QAT ran on the GPU."""
    folder = tmp_path_factory.mktemp("gpu")
    mini_coco(folder / "coco")
    for stage in ("float", "calibration", "qat"):
        work = command("train", folder, ["--stage", stage], "device=cuda")
        assert "device: cuda:0" in (work / stage / "log.txt").read_text()
    return folder


def predicted(command: Command, folder: Path, stage: str, device: str) -> dict[str, float]:
    work = command("predict", folder, ["--stage", stage], f"device={device}")
    metrics: dict[str, float] = json.loads((work / stage / "predict.json").read_text())["metrics"]
    return metrics


def validated(folder: Path, stage: str) -> dict[str, float]:
    """What the training of the stage's best checkpoint measured."""
    best = load_checkpoint(folder / "work_dirs" / Path(CONFIG).stem / f"{stage}-checkpoint-best.pth.tar")
    return dict(best["metrics"])


def test_the_integer_model_scores_the_same_on_both_devices(trained: Path, command: Command) -> None:
    on_cpu = predicted(command, trained, "int_infer", "cpu")
    on_gpu = predicted(command, trained, "int_infer", "cuda")
    qat = predicted(command, trained, "qat", "cuda")
    assert on_cpu == on_gpu == qat
    assert validated(trained, "qat") == qat


def test_a_stage_scores_what_its_training_printed(trained: Path, command: Command) -> None:
    for stage in ("float", "calibration"):
        assert predicted(command, trained, stage, "cuda") == validated(trained, stage)


def test_float16_training_kept_its_scaler_and_finite_weights(trained: Path) -> None:
    last = load_checkpoint(trained / "work_dirs" / Path(CONFIG).stem / "float-checkpoint-last.pth.tar")
    assert last["batch_processor"]["scaler"]["scale"] > 0
    assert all(value.isfinite().all() for value in last["state_dict"].values() if value.is_floating_point())


@pytest.mark.parametrize("more", [["amp=None"], ["multi_scale=(0.5,1.0)", "late_epochs=1"]])
def test_float_training_with(more: list[str], tmp_path: Path, command: Command) -> None:
    mini_coco(tmp_path / "coco")
    work = command("train", tmp_path, [], "device=cuda", *more)
    last = load_checkpoint(work / "float-checkpoint-last.pth.tar")
    assert all(value.isfinite().all() for value in last["state_dict"].values() if value.is_floating_point())


def test_one_process_of_nccl_with_synchronized_norms(tmp_path: Path, repo_root: Path) -> None:
    mini_coco(tmp_path / "coco")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1"]
    words = [str(repo_root / "tools/train.py"), str(repo_root / CONFIG), "--launcher", "pytorch", *options(tmp_path)]
    places = os.pathsep.join(filter(None, [str(repo_root), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": places}
    done = subprocess.run(
        [*launch, *words], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    assert "cuda:0" in done.stdout


def test_exported_file_is_the_model_that_was_trained_here(trained: Path, command: Command) -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    work = command("export", trained, ["--verify", "8"], "device=cuda")
    results = json.loads((work / "export-results.json").read_text())
    assert results["parity"]["ok"] and results["parity"]["differing"] == 0
