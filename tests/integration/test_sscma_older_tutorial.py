"""The commands of SSCMA's first RTMDet tutorial, as they are written there; only the sizes differ."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.sscma import mask_folder, tutorial_runner

Run = Callable[[str], str]
CONFIG = "configs/rtmdet_nano_8xb32_300e_coco.py"
DATA = """--cfg-options data_root=$(pwd)/datasets/coco_mask/mask/ num_classes=2
    train_ann_file=train/_annotations.coco.json val_ann_file=valid/_annotations.coco.json
    train_img_prefix=train/ val_img_prefix=valid/"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mask_folder(tmp_path_factory, "sscma_older")


@pytest.fixture(scope="module")
def run(folder: Path, repo_root: Path) -> Run:
    return tutorial_runner(folder, repo_root)


@pytest.fixture(scope="module")
def trained(run: Run) -> str:
    return run(f"tools/train.py {CONFIG} {DATA} max_epochs=2 imgsz='(64,64)'")


@pytest.mark.slow
def test_max_epochs_is_the_number_of_epochs(trained: str, folder: Path) -> None:
    assert "epoch 2/2  eta 0:00:0" in trained and "Average Precision" in trained
    work_dir = folder / "work_dirs" / "rtmdet_nano_8xb32_300e_coco"
    assert (work_dir / "float-checkpoint-epoch-0002.pth.tar").is_file()


@pytest.mark.slow
def test_export_finds_the_epoch_below_work_dirs(run: Run, trained: str, folder: Path) -> None:
    """The tutorial leaves the run's own folder out of the path, and names no folder of pictures to calibrate with."""
    text = run(f"tools/export.py {CONFIG} work_dirs/epoch_2.pth {DATA} --imgsz 64 64 --format tflite")
    assert "this is rtmdet_nano_8xb32_300e_coco/float-checkpoint-epoch-0002.pth.tar here" in text
    assert ", 0 differing" in text
    files = {path.name for path in (folder / "work_dirs").rglob("epoch_2_*.tflite")}
    assert files == {"epoch_2_float32.tflite", "epoch_2_float16.tflite", "epoch_2_int8.tflite"}


@pytest.mark.slow
def test_scoring_the_checkpoint(run: Run, trained: str) -> None:
    text = run(f"tools/test.py {CONFIG} work_dirs/epoch_2.pth {DATA} imgsz='(64,64)'")
    assert text.count(" Average Precision ") == 6 and text.count(" Average Recall ") == 6
