"""The RTMDet configs: each builds, at the size that its header states, and checks as a whole."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from hatdet.config import load_config
from hatdet.registry import Builder

ROOT = Path(__file__).resolve().parents[3]
FILES = sorted([*(ROOT / "configs").glob("rtmdet_*.py"), *(ROOT / "configs" / "rtmdet").glob("*.py")])
BIG = ("_l_", "_x_", "_m_")


def test_the_files_are_those_that_the_tutorials_name() -> None:
    names = {str(f.relative_to(ROOT / "configs")) for f in FILES}
    tutorials = {f"rtmdet/rtmdet_nano_8xb32_300e_coco_{v}.py" for v in ("ncadc_relu6", "relu", "relu_q")}
    tutorials |= {f"rtmdet_{size}_8xb32_300e_coco.py" for size in ("nano", "s", "m", "l", "mnv4")}
    assert tutorials <= names
    assert {f"rtmdet/rtmdet_{size}_8xb32_300e_coco.py" for size in ("tiny", "s", "m", "l", "x")} <= names


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_every_stage_of_a_config_is_valid(path: Path) -> None:
    config = load_config(path, {"num_classes": 3, "imgsz": (64, 64)})
    config.validate("model", "float_trainer", "calibration_trainer", "qat_trainer", "int_infer")
    assert config.model["bbox_head"]["num_classes"] == 3


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_the_header_states_the_number_of_parameters(path: Path) -> None:
    stated = re.search(r"([0-9.]+) M with 80|([0-9.]+) M parameters and", path.read_text(encoding="utf-8"))
    if stated is None:
        pytest.skip("the header refers to another config's network")
    with torch.device("meta" if any(b in path.stem for b in BIG) else "cpu"):
        model = Builder().build(load_config(path).model, "model")
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    assert f"{millions:.3f}" == (stated[1] or stated[2])


def test_max_epochs_is_another_name_of_epochs() -> None:
    path = ROOT / "configs" / "rtmdet_nano_8xb32_300e_coco.py"
    assert load_config(path, {"max_epochs": 100}).float_trainer["num_epochs"] == 100
