"""Training on about a hundred broken COCO sets: it ends with numbers, or with one message that names the fault."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from hatdet.config.load import load_config
from hatdet.engine.run import train
from hatdet.utils.errors import UserError
from tests.integration.mini_coco import CONFIG

ROOT = Path(__file__).parents[2]
HOSTILE = ROOT / ".." / "shared" / "data" / "hostile"
CASES = json.loads((HOSTILE / "CASES.json").read_text()) if HOSTILE.is_dir() else []

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CASES, reason="the hostile data sets are not beside the checkout"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["case"])
def test_case(
    case: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("HATDET_CACHE", str(tmp_path / "cache"))
    options = {
        "data_root": str(HOSTILE / "cases" / case["case"]),
        "train_ann_file": "annotations/instances_train.json",
        "val_ann_file": "annotations/instances_val.json",
        "train_img_prefix": "train/",
        "val_img_prefix": "val/",
        "num_classes": 4 if case["case"] == "d15_unused_category" else 3,
        "imgsz": (64, 64),
        "epochs": 1,
        "batch_size": 2,
        "workers": 0,
        "work_dir": str(tmp_path / "w"),
    }
    error = ""
    try:
        values = train(load_config(ROOT / CONFIG, options), "float")
        assert all(math.isfinite(value) for value in values.values())
    except (UserError, OSError) as found:  # what a command prints as one message
        error = str(found)
        assert not list(tmp_path.rglob("*.pth*"))
    shown = "".join(capfd.readouterr()) + caplog.text + error
    expect = case["expect"]
    if expect in ("ok", "ok_warn"):
        assert not error
    if expect == "error":
        assert error
    if expect in ("skip_or_error", "warn_or_error"):
        assert error or "warning" in shown.lower()
    if expect in ("error", "skip_or_error", "warn_or_error") or error:
        assert not [word for word in case["mention"].split() if word not in shown]
