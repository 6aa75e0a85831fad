"""Two processes on the CPU (gloo), started by torchrun as a user would."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from hatdet.utils.checkpoints.checkpoint import load_checkpoint
from tests.integration.mini_coco import CONFIG, mini_coco

# Each process takes half of a batch of 8 of the same order; without dropout and batch normalization the averaged
# gradient is that of the whole batch.
SCRIPT = """
import glob
import sys
from pathlib import Path
import torch
from torch import nn
from hatdet.engine.batch_processors import BasicBatchProcessor
from hatdet.engine.callbacks.checkpoint import Checkpoint
from hatdet.engine.callbacks.ema import ExponentialMovingAverage
from hatdet.engine.callbacks.nan_guard import NanGuard
from hatdet.engine.callbacks.stats_monitor import StatsMonitor
from hatdet.engine.callbacks.teaching.distillation import Distillation
from hatdet.engine.callbacks.validation import Validation
from hatdet.engine.processes.launcher import processes
from hatdet.engine.trainer import DistributedDataParallelTrainer
from hatdet.utils import distributed
from tests.unit.engine import toy

folder, accumulate, stop = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(1)
pictures, scored = (13, 1) if "--uneven" in sys.argv else (16, 7)


class Stop(StatsMonitor):
    def on_step_end(self, loop):
        super().on_step_end(loop)
        if loop.progress.step == stop:
            loop.stop("asked to")


with processes():
    world = distributed.get_world_size()
    model = toy.model(dropout=0.0)
    if "--norm" not in sys.argv:
        model.bn = nn.Identity()
    taught = [Distillation(teacher=toy.ToyTeacher(__file__))] if "--teacher" in sys.argv else []
    run = toy.trainer(
        DistributedDataParallelTrainer,
        model=model,
        data_loader=toy.loader(pictures, 8 // accumulate // world),
        val_data_loader=toy.loader(scored, 2),
        val_metrics=toy.ToyMetric(),
        num_epochs=3,
        optimizer=toy.factory(type=torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=0.0),
        batch_processor=BasicBatchProcessor(grad_accumulation_step=accumulate),
        callbacks=[
            *taught,
            ExponentialMovingAverage(momentum=0.1, gamma=None),
            NanGuard(),
            Validation(),
            Stop(),
            Checkpoint(save_dir=folder, save_last_every_steps=1),
        ],
    )
    values = run.fit(resume=True)
    everywhere = distributed.all_gather((values, run.model.conv.weight.detach()))
    assert all(torch.equal(weight, everywhere[0][1]) for _, weight in everywhere)
    assert all(found == values for found, _ in everywhere)
    if distributed.is_main_process():
        print(f"processes {world}, images scored {values['images']:.0f}")

# A thread of the group that is alive when the interpreter ends aborts the process now and then.
threads = [Path(task).read_text().strip() for task in glob.glob("/proc/self/task/*/comm")]
assert not [name for name in threads if "gloo" in name], threads
"""


def launch(root: Path, command: list[str], processes: int, **environment: str) -> str:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    done = subprocess.run(
        [sys.executable, *(launcher if processes > 1 else []), *command],
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", **environment},
        cwd=root,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def toy_run(
    root: Path, folder: Path, processes: int, accumulate: int = 1, stop: int = 0, *flags: str
) -> dict[str, Any]:
    script = folder.parent / "script.py"
    script.write_text(SCRIPT)
    arguments = [str(script), str(folder), str(accumulate), str(stop), *flags]
    out = launch(root, arguments, processes)
    assert f"processes {processes}, images scored {1 if '--uneven' in flags else 7}" in out
    assert out.count("validation after epoch 3:") <= 1  # one process speaks
    return load_checkpoint(folder / "float-checkpoint-last.pth.tar")


@pytest.mark.slow
def test_two_processes_train_like_one(tmp_path: Path, repo_root: Path) -> None:
    one = toy_run(repo_root, tmp_path / "one", 1)
    two = toy_run(repo_root, tmp_path / "two", 2)
    accumulated = toy_run(repo_root, tmp_path / "accumulated", 2, 2)
    for other in (two, accumulated):
        for name, value in one["state_dict"].items():
            torch.testing.assert_close(value, other["state_dict"][name], rtol=1e-4, atol=1e-6)
    assert sorted(two["rng"]) == ["0", "1"] and two["metrics"] == one["metrics"]


@pytest.mark.slow
def test_two_processes_learn_of_a_teacher_like_one(tmp_path: Path, repo_root: Path) -> None:
    """What trains along with the student has the gradients of both processes."""
    one = toy_run(repo_root, tmp_path / "one", 1, 1, 0, "--teacher")
    two = toy_run(repo_root, tmp_path / "two", 2, 1, 0, "--teacher")
    adapters = [state["callbacks"]["Distillation"]["adapters"] for state in (one, two)]
    for mine, other in ((one["state_dict"], two["state_dict"]), adapters):
        for name, value in mine.items():
            torch.testing.assert_close(value, other[name], rtol=1e-4, atol=1e-6)
    alone = toy_run(repo_root, tmp_path / "alone", 1)
    assert not torch.allclose(one["state_dict"]["conv.weight"], alone["state_dict"]["conv.weight"])


@pytest.mark.slow
def test_two_processes_with_uneven_shares_take_the_same_steps(tmp_path: Path, repo_root: Path) -> None:
    """13 pictures: each process has 7, one for the second time. One picture is validated: a process has none."""
    two = toy_run(repo_root, tmp_path / "two", 2, 1, 0, "--uneven")
    assert two["progress"] == {"epoch": 3, "step": 6, "step_in_epoch": 0, "samples": 21}
    assert two["pace"]["steps_per_epoch"] == 2 and two["pace"]["images"] == 13


@pytest.mark.slow
def test_two_processes_resume_to_the_same_weights(tmp_path: Path, repo_root: Path) -> None:
    """With batch normalization, whose statistics differ between the processes."""
    whole = toy_run(repo_root, tmp_path / "whole", 2, 1, 0, "--norm")
    toy_run(repo_root, tmp_path / "cut", 2, 1, 3, "--norm")
    resumed = toy_run(repo_root, tmp_path / "cut", 2, 1, 0, "--norm")
    assert resumed["progress"] == whole["progress"] == {"epoch": 3, "step": 6, "step_in_epoch": 0, "samples": 24}
    for part in ("state_dict", "raw_state_dict"):
        for name, value in whole[part].items():
            assert torch.equal(value, resumed[part][name]), f"{part} {name}"


@pytest.mark.slow
def test_the_train_command_under_torchrun(tmp_path: Path, repo_root: Path) -> None:
    """RTMDet-nano on a few generated pictures, float and QAT."""
    data = mini_coco(tmp_path / "data")
    options = [f"data_root={data}", f"work_dir={tmp_path / 'w'}", "num_classes=2", "imgsz=(64,64)", "epochs=1"]
    options += ["qat_epochs=1", "batch_size=2", "workers=1"]
    for stage in ("float", "qat"):
        command = ["tools/train.py", "--launcher", "pytorch", "--stage", stage, "--config", CONFIG]
        out = launch(repo_root, [*command, "--cfg-options", *options], 2, HATDET_CACHE=str(tmp_path / "cache"))
        assert out.count("2 processes") == 1 and out.count("\nepoch 1/1  ") == 1
        assert out.count("Average Precision  (AP) @[ IoU=0.50:0.95 | area=   all") == 1
        assert (tmp_path / "w" / stage / "results.csv").is_file()
        assert (tmp_path / "w" / f"{stage}-checkpoint-best.pth.tar").is_file()
    assert "images had no prediction" not in out
