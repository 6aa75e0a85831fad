"""print-config decides an open recipe as a training would, and says where it cannot."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

from hatdet.commands.print_config import main
from tests.integration.mini_coco import mini_coco

NANO = "hatdet:rtmdet/rtmdet_nano_8xb32_300e_coco_ncadc_relu6.py"


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[str, dict[str, Any]]:
    """The third line, and the constants."""
    assert main([NANO, "--cfg-options", *words]) == 0
    text = capsys.readouterr().out
    found = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            if isinstance(node.value, (ast.Constant, ast.Tuple)):
                found[node.targets[0].id] = ast.literal_eval(node.value)
    return text.split("\n")[2], found


def test_where_the_data_are_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = mini_coco(tmp_path, count=5)  # one of them is empty
    line, found = printed(capsys, f"data_root={root}")
    assert line.startswith("# recipe small: 4 pictures x 300 epochs = 1 200 samples, fewer than 2 000 000")
    assert (found["recipe"], found["lr"], found["scale_ratio"]) == ("small", 2e-3, (0.6, 1.4))
    line, found = printed(capsys, f"data_root={root}", "epochs=500000")
    assert line.startswith("# recipe large: 4 pictures x 500000 epochs = 2 000 000 samples, 2 000 000 or more")
    assert (found["recipe"], found["lr"], found["scale_ratio"]) == ("large", 1e-3, (0.5, 2.0))


def test_where_they_are_not_and_where_nothing_is_open(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line, found = printed(capsys, f"data_root={tmp_path}")
    assert line == (
        "# recipe auto: no training data are found here; below 2 000 000 samples a training takes small, "
        "these are the settings of large"
    )
    assert (found["recipe"], found["lr"]) == ("auto", 1e-3)
    line, found = printed(capsys, f"data_root={tmp_path}", "recipe=small")
    assert not line.startswith("# recipe") and found["lr"] == 2e-3
