"""The commands of SSCMA's RTMDet tutorial, as they are written there: only the paths and the sizes differ."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.sscma import mask_folder, tutorial_runner

NAME = "rtmdet_nano_8xb32_300e_coco_ncadc_relu6"
SIZE = "64"
EPOCHS = "2"

Run = Callable[[str], str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed")
    return mask_folder(tmp_path_factory, "sscma")


@pytest.fixture(scope="module")
def run(folder: Path, repo_root: Path) -> Run:
    return tutorial_runner(folder, repo_root)


def data(slash: str = "/") -> str:
    """The options of every command, with or without the final slash of folders."""
    return f"""--cfg-options data_root=$(pwd)/datasets/coco_mask/mask{slash} num_classes=2
        train_ann_file=train/_annotations.coco.json val_ann_file=valid/_annotations.coco.json
        train_img_prefix=train{slash} val_img_prefix=valid{slash}"""


CONFIG = f"configs/rtmdet/{NAME}.py"
WORK = f"work_dirs/{NAME}"
IMGSZ = f"imgsz='({SIZE},{SIZE})'"


@pytest.fixture(scope="module")
def trained(run: Run) -> str:
    return run(f"tools/train.py {CONFIG} {data()} epochs={EPOCHS} {IMGSZ}")


@pytest.fixture(scope="module")
def exported(run: Run, trained: str) -> str:
    return run(
        f"tools/export.py {CONFIG} {WORK}/epoch_{EPOCHS}.pth {data()} --imgsz {SIZE} {SIZE} --format tflite "
        "--image_path $(pwd)/datasets/coco_mask/mask/valid"
    )


@pytest.mark.slow
def test_training_leaves_the_last_epoch_and_events(trained: str, folder: Path) -> None:
    assert "recipe small: 6 pictures x 2 epochs = 12 samples, fewer than 2 000 000; recipe=large for" in trained
    assert "Average Precision" in trained
    assert (folder / WORK / f"float-checkpoint-epoch-{int(EPOCHS):04d}.pth.tar").is_file()
    assert list((folder / "work_dirs").rglob("events.out.tfevents.*")), "tensorboard --logdir work_dirs"


@pytest.mark.slow
def test_export_at_the_trained_size(exported: str, folder: Path) -> None:
    """The size is named by --imgsz alone: the config's own 640 is no reason to warn, the checkpoint's counts."""
    assert "this is float-checkpoint-epoch-0002.pth.tar here" in exported
    assert "may cost accuracy" not in exported
    assert "calibrated on 6 images of" in exported and ", 0 differing" in exported
    for kind in ("float32", "float16", "int8"):
        metadata = json.loads((folder / WORK / f"epoch_{EPOCHS}_{kind}.json").read_text())
        assert metadata["classes"] == ["mask", "no-mask"] and metadata["input"]["shape"] == [1, 64, 64, 3]


@pytest.mark.slow
def test_scoring_the_int8_file(run: Run, exported: str) -> None:
    """What the training was given is not given again: the file's run lies beside it."""
    text = run(f"tools/test.py {CONFIG} {WORK}/epoch_{EPOCHS}_int8.tflite")
    assert f"taken from {WORK}/float-checkpoint-epoch-0002.pth.tar, which was made with them: data_root=" in text
    assert text.count(" Average Precision ") == 6 and text.count(" Average Recall ") == 6


@pytest.mark.slow
def test_quantization_and_scoring_its_file(run: Run, trained: str, folder: Path) -> None:
    text = run(f"tools/quantization.py {CONFIG} {WORK}/epoch_{EPOCHS}.pth {data()} {IMGSZ} epochs={EPOCHS}")
    for row in ("float", "PTQ (calibration)", "QAT (int_infer)", "int8 file (LiteRT reference)"):
        assert f"\n{row} " in text
    assert "equal to the last digit" in text
    recorded = json.loads((folder / WORK / "qat" / "quantization.json").read_text())["metrics"]
    run(f"tools/test.py {CONFIG} {WORK}/qat/qat_model_int8.tflite {data()} {IMGSZ}")
    scored = json.loads((folder / WORK / "test" / "qat_model_int8.tflite.json").read_text())["metrics"]
    assert scored == recorded["int8 file (LiteRT reference)"] == recorded["QAT (int_infer)"]


@pytest.mark.slow
def test_paths_without_a_final_slash(run: Run, exported: str) -> None:
    run(f"tools/test.py {CONFIG} {WORK}/epoch_{EPOCHS}_float32.tflite {data('')} {IMGSZ}")
