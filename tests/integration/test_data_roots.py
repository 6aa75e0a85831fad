"""The shipped configs train from whatever data_root the packer can read or has written."""

from __future__ import annotations

from pathlib import Path

import pytest

from hatdet.commands.mscoco_packer import main as pack
from hatdet.config.load import load_config
from hatdet.engine.run import train
from tests.integration.mini_coco import CONFIG, mini_coco

ROOT = Path(__file__).parents[2]
CONFIGS = (CONFIG, "configs/detection/retinanet/retinanet_vargnetv2_tiny_coco.py")


def numbers(config: str, root: Path, work_dir: Path) -> dict[str, float]:
    options = {"data_root": str(root), "num_classes": 2, "imgsz": (64, 64), "epochs": 1, "workers": 0}
    return train(load_config(ROOT / config, {**options, "work_dir": str(work_dir)}), "float")


@pytest.mark.slow
@pytest.mark.parametrize("config", CONFIGS)
def test_coco_roboflow_and_packed_folders_train_alike(config: str, tmp_path: Path) -> None:
    coco = mini_coco(tmp_path / "coco", count=6)
    for split in ("train", "val"):
        pack(["--src-data-dir", str(coco), "--target-data-dir", str(tmp_path / "packed"), "--split-name", split])
    expected = numbers(config, coco, tmp_path / "a")
    assert numbers(config, tmp_path / "packed", tmp_path / "b") == expected
    roboflow = tmp_path / "roboflow"
    roboflow.mkdir()
    for split, name in (("train", "train"), ("val", "valid")):
        (coco / f"{split}2017").rename(roboflow / name)
        (coco / "annotations" / f"instances_{split}2017.json").rename(roboflow / name / "_annotations.coco.json")
    assert numbers(config, roboflow, tmp_path / "c") == expected
