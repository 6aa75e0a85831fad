"""A resolved config is read, not run."""

from __future__ import annotations

import math
from pathlib import Path

from hatdet.config.literal import Unread, read_values
from hatdet.config.load import load_config

CONFIG = "configs/rtmdet/rtmdet_nano_ncadc_relu6_small_data.py"


def test_what_dump_writes_is_read_as_it_was(repo_root: Path) -> None:
    config = load_config(repo_root / CONFIG, {"num_classes": 3})
    values = read_values(config.dump())
    for name in ("model", "val_transforms", "imgsz", "num_classes", "work_dir", "keep_float", "qat_mode"):
        assert values[name] == config[name], name
    assert values["val_data_loader"]["type"] == "torch.utils.data.DataLoader", "a class is its path"
    assert values["val_data_loader"]["dataset"]["transforms"] is values["val_transforms"], "what is shared stays so"
    assert set(config) <= set(values)


def test_code_is_not_run(tmp_path: Path) -> None:
    file = tmp_path / "made"
    values = read_values(f"import os\na = open({str(file)!r}, 'w')\nb = dict(c=[1, os.getcwd()], d=-2)\nos.x = 1\n")
    assert not file.exists()
    assert isinstance(values["a"], Unread) and repr(values["a"]).startswith("<open(")
    assert values["b"]["d"] == -2 and isinstance(values["b"]["c"][1], Unread) and set(values) == {"a", "b"}


def test_small_forms() -> None:
    values = read_values("w = 'runs'\np = w + '/a'\nn = None\nx = {1: (2,), 'y': [w]}\ni = float('inf')\nd = dict(**x)")
    assert values["p"] == "runs/a" and values["n"] is None and values["x"] == {1: (2,), "y": ["runs"]}
    assert values["i"] == math.inf and isinstance(values["d"], Unread)
    assert read_values("this is no Python") == {} and read_values("\0") == {}
