"""``tools/train.py`` as a batch system treats it: SIGTERM to the whole job, also under torchrun; then --resume."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from hatdet.utils.checkpoints.checkpoint import load_checkpoint
from tests.integration.mini_coco import mini_coco

ROOT = Path(__file__).resolve().parents[2]
CONFIG = str(ROOT / "configs" / "rtmdet" / "rtmdet_nano_ncadc_relu6_small_data.py")
LAST = "float-checkpoint-last.pth.tar"
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def start(data: Path, work: Path, *flags: str, launcher: list[str] | None = None) -> subprocess.Popen[str]:
    options = {
        "data_root": data, "num_classes": 2, "imgsz": "(64,64)", "epochs": 3, "batch_size": 4, "workers": 2,
        "warmup_steps": 3, "val_interval": 1, "run_pictures": False,
    }  # fmt: skip
    words = [f"{key}={value}" for key, value in options.items()]
    tool = [str(ROOT / "tools" / "train.py"), CONFIG, *flags, "--work-dir", str(work), "--cfg-options", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *(launcher or []), *tool], env=environment, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def end_in_epoch_2(process: subprocess.Popen[str], everyone: bool) -> str:
    """Read the log until epoch 1 is done, send SIGTERM, and give what is said from then on."""
    assert process.stdout is not None
    for text in process.stdout:
        if text.startswith("epoch 1/3  eta"):
            break
    time.sleep(0.2)
    (os.killpg if everyone else os.kill)(process.pid, signal.SIGTERM)
    rest = process.stdout.read()
    process.wait(timeout=60)
    process.stdout.close()
    return rest


@pytest.mark.slow
def test_sigterm_to_the_whole_job_and_resume(tmp_path: Path) -> None:
    data = mini_coco(tmp_path / "data")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    done = start(data, whole)
    done.communicate(timeout=240)
    assert done.returncode == 0
    process = start(data, cut)
    said = end_in_epoch_2(process, everyone=True)
    assert process.returncode == 143, said
    assert "train.py: interrupted (SIGTERM); epoch " in said
    assert f"is saved in {cut / LAST}; the same command with --resume continues there" in said
    assert "Traceback" not in said
    resumed = start(data, cut, "--resume")
    resumed.communicate(timeout=240)
    assert resumed.returncode == 0
    a, b = load_checkpoint(whole / LAST), load_checkpoint(cut / LAST)
    assert a["state_dict"].keys() == b["state_dict"].keys()
    assert all(torch.equal(value, b["state_dict"][name]) for name, value in a["state_dict"].items())
    assert a["metrics"] == b["metrics"] and a["progress"] == b["progress"]


@pytest.mark.slow
def test_sigterm_to_torchrun_ends_every_process_with_one_line(tmp_path: Path) -> None:
    """torchrun sends it on to all processes of the group, those that load data included."""
    process = start(mini_coco(tmp_path / "data"), tmp_path / "work", launcher=TORCHRUN)
    said = end_in_epoch_2(process, everyone=False)
    lines = [line for line in said.splitlines() if "train.py" in line and "interrupted" in line]
    assert len(lines) == 1 and f"is saved in {tmp_path / 'work' / LAST}; the same command with --resume" in lines[0]
    assert "data worker" not in said
    assert load_checkpoint(tmp_path / "work" / LAST)["progress"]["epoch"] >= 1
