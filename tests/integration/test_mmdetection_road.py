"""A user's ten lines in MMDetection's vocabulary, through all stages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.mini_coco import mini_coco

ROOT = Path(__file__).resolve().parents[2]
MINE = """_base_ = [{base!r}]
num_classes = 2
model = dict(
    backbone=dict(depth=18, init_cfg=None, frozen_stages=-1, norm_eval=False),
    neck=dict(in_channels=[64, 128, 256, 512], out_channels=32),
    bbox_head=dict(in_channels=32, feat_channels=32, stacked_convs=1))
data_root = {data!r}
img_scale = (96, 64)
optimizer = dict(type='SGD', lr=0.002, momentum=0.9, weight_decay=0.0001)
runner = dict(type='EpochBasedRunner', max_epochs=1)
data = dict(samples_per_gpu=2, workers_per_gpu=0)
"""


@pytest.mark.slow
def test_a_users_file_goes_through_all_stages(tmp_path: Path) -> None:
    data = mini_coco(tmp_path / "data", count=6)
    config = tmp_path / "my_retinanet.py"
    base = ROOT / "configs" / "retinanet" / "retinanet_r50_fpn_1x_coco.py"
    config.write_text(MINE.format(base=str(base), data=f"{data}/"))
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}

    def run(tool: str, *arguments: str) -> str:
        words = [sys.executable, str(ROOT / "tools" / tool), *arguments]
        done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
        return done.stdout

    assert "float_trainer" in run("print_config.py", str(config))
    run("train.py", str(config))  # as MMDetection's users call it; the float stage
    for stage in ("calibration", "qat"):
        run("train.py", "--stage", stage, "--config", str(config))
    run("predict.py", "--stage", "int_infer", "--config", str(config))
    work = tmp_path / "work_dirs" / "my_retinanet"
    exported = run("export.py", "--config", str(config), "--stage", "int_infer", "--verify", "2")
    assert "0 differing" in exported
    qat = json.loads((work / "int_infer" / "predict.json").read_text())["metrics"]
    run("test.py", str(config), str(work / "int_infer-graph.pth.tar"), "--out", str(tmp_path / "graph.json"))
    assert json.loads((tmp_path / "graph.json").read_text())["metrics"] == qat
