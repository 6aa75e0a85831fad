"""Mistakes that users make with the commands: one clear line on stderr, a status that is not 0, nothing left behind."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from hatdet.config.options import parse_options

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "configs" / "rtmdet" / "rtmdet_nano_8xb32_300e_coco_ncadc_relu6.py"


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight pictures of 64x48 with one box each, classes ``circle`` and ``square``."""
    import cv2
    import numpy as np

    root = tmp_path_factory.mktemp("data")
    (root / "annotations").mkdir()
    (root / "train2017").mkdir()
    images, annotations = [], []
    for i in range(1, 9):
        cv2.imwrite(str(root / "train2017" / f"{i}.jpg"), np.full((48, 64, 3), 20 * i, np.uint8))
        images.append({"id": i, "file_name": f"{i}.jpg", "height": 48, "width": 64})
        box = {"bbox": [8, 8, 24, 16], "area": 384, "iscrowd": 0}
        annotations.append({"id": i, "image_id": i, "category_id": 3 + i % 2, **box})
    categories = [{"id": 3, "name": "circle"}, {"id": 4, "name": "square"}]
    content = json.dumps({"images": images, "annotations": annotations, "categories": categories})
    (root / "annotations" / "instances_train2017.json").write_text(content, encoding="utf-8")
    return root


def run_tool(folder: Path, tool: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command in ``folder`` as a user would."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment.pop("HATDET_TRACEBACK", None)
    return subprocess.run(
        [sys.executable, str(ROOT / "tools" / tool), *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def error_line(folder: Path, tool: str, *arguments: str) -> str:
    """The one line that says what is wrong, apart from news of packing; ``folder`` must be as it was before."""
    before = sorted(folder.rglob("*"))
    done = run_tool(folder, tool, *arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    news = ("packing ", "packed ", "instances_")
    lines = [line for line in done.stderr.strip().splitlines() if not line.startswith(news)]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith(f"{tool}: error: ")
    assert sorted(folder.rglob("*")) == before, "something half-written was left behind"
    return lines[0]


def options(data_root: Path, **changes: object) -> list[str]:
    """Arguments that make the shipped config fit the tiny data set."""
    values: dict[str, object] = {
        "data_root": data_root,
        "num_classes": 2,
        "imgsz": (64, 64),
        "epochs": 1,
        "workers": 0,
        "val_ann_file": "annotations/instances_train2017.json",
        "val_img_prefix": "train2017/",
    }
    return ["--cfg-options", *(f"{key}={value}" for key, value in (values | changes).items())]


def test_misspelt_key_three_levels_deep(tmp_path: Path, data_root: Path) -> None:
    text = (ROOT / "configs" / "_base_" / "rtmdet.py").read_text(encoding="utf-8")
    assert text.count("stacked_convs=2") == 1
    (tmp_path / "typo.py").write_text(text.replace("stacked_convs=2", "stacked_convz=2"), encoding="utf-8")
    line = error_line(tmp_path, "train.py", "--stage", "float", "--config", "typo.py", *options(data_root))
    assert "float_trainer.model.bbox_head.stacked_convz" in line
    assert "did you mean 'stacked_convs'" in line


def test_wrong_type(tmp_path: Path, data_root: Path) -> None:
    arguments = options(data_root, num_classes="two")
    line = error_line(tmp_path, "train.py", "--stage", "float", "--config", str(CONFIG), *arguments)
    assert line == "train.py: error: num_classes: expected int, got 'two' (str)"


def test_unknown_option(tmp_path: Path, data_root: Path) -> None:
    arguments = options(data_root, epohcs=3)
    line = error_line(tmp_path, "train.py", "--stage", "float", "--config", str(CONFIG), *arguments)
    assert "did you mean 'epochs'" in line


@pytest.mark.parametrize(
    ("tool", "stage", "needed"),
    [
        ("train.py", "calibration", "float"),
        ("train.py", "qat", "float"),
        ("predict.py", "float", "float"),
        ("predict.py", "calibration", "calibration"),
        ("predict.py", "qat", "qat"),
        ("predict.py", "int_infer", "qat"),
    ],
)
def test_missing_checkpoint_of_the_stage_before(
    tmp_path: Path, data_root: Path, tool: str, stage: str, needed: str
) -> None:
    line = error_line(tmp_path, tool, "--stage", stage, "--config", str(CONFIG), *options(data_root))
    assert f"no {needed}-checkpoint-best in work_dirs" in line
    words = shlex.split(line.split("run `", 1)[1].split("`", 1)[0])
    command = ["python", str(ROOT / "tools/train.py"), "--stage", needed, "--config", str(CONFIG)]
    assert words[:7] == [*command, "--cfg-options"]
    assert parse_options(words[7:]) == parse_options(options(data_root)[1:])


def test_missing_annotation_file(tmp_path: Path, data_root: Path) -> None:
    arguments = options(data_root, train_ann_file="annotations/absent.json")
    line = error_line(tmp_path, "train.py", "--stage", "float", "--config", str(CONFIG), *arguments)
    assert "absent.json" in line
    assert not (data_root / "annotations" / "absent.json").exists()


def test_missing_validation_file(tmp_path: Path, data_root: Path) -> None:
    arguments = options(data_root, val_ann_file="annotations/absent.json")
    line = error_line(tmp_path, "train.py", "--stage", "float", "--config", str(CONFIG), *arguments)
    assert "absent.json" in line


def test_classes_do_not_fit_the_data(tmp_path: Path, data_root: Path) -> None:
    arguments = options(data_root, num_classes=5)
    line = error_line(tmp_path, "train.py", "--stage", "float", "--config", str(CONFIG), *arguments)
    assert "5" in line and "circle" in line and "square" in line


def test_missing_config(tmp_path: Path) -> None:
    line = error_line(tmp_path, "train.py", "--stage", "float", "--config", "absent.py")
    assert "absent.py" in line


def test_missing_folder_to_pack(tmp_path: Path) -> None:
    arguments = ("--src-data-dir", "absent", "--target-data-dir", "packed", "--split-name", "train")
    line = error_line(tmp_path, "mscoco_packer.py", *arguments, "--pack-type", "lmdb")
    assert "absent" in line
