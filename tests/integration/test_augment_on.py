"""``augment_on="device"``: the same batches, finished by the batch processor of each stage that trains."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from hatdet.building import Builder
from hatdet.config.load import load_config
from hatdet.engine.batch_processors import BasicBatchProcessor
from tests.integration.mini_coco import mini_coco

CONFIG = "configs/rtmdet/rtmdet_nano_ncadc_relu6_small_data.py"


def config(root: Path, folder: Path, where: str) -> Any:
    options = {"data_root": str(folder), "num_classes": 2, "imgsz": (64, 64), "workers": 0, "mixup_prob": 0.5}
    return load_config(root / CONFIG, {**options, "augment_on": where, "multi_scale": (0.5, 1.0), "batch_size": 4})


@pytest.mark.parametrize("stage", ["float", "qat"])
def test_each_stage_trains_on_the_same_pixels(stage: str, tmp_path: Path, repo_root: Path) -> None:
    mini_coco(tmp_path)
    made = []
    for where in ("loader", "device"):
        trainer = copy.deepcopy(config(repo_root, tmp_path, where)[f"{stage}_trainer"])
        loader = Builder().build(trainer["data_loader"])
        processor: BasicBatchProcessor = Builder().build(trainer["batch_processor"])
        processor.batch_transforms = [t for t in processor.batch_transforms if not hasattr(t, "begin_step")]
        batch = next(iter(loader))
        assert ("unfinished" in batch) == (where == "device")
        made.append(processor.prepare_batch(batch, torch.device("cpu")))
    assert made[0].keys() == made[1].keys()
    off = (made[0].pop("img").int() - made[1].pop("img").int()).abs()
    assert int(off.max()) <= (stage == "qat")  # whose pictures may be narrower: the rest of OpenCV's lines
    assert all(torch.equal(value, made[1][key]) for key, value in made[0].items())


def test_another_place_is_refused(tmp_path: Path, repo_root: Path) -> None:
    with pytest.raises(ValueError, match="augment_on is 'gpu'; use 'loader' or 'device'"):
        config(repo_root, tmp_path, "gpu")
