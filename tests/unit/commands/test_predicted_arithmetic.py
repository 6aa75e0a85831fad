"""What ``tools/predict.py`` leaves names the arithmetic of a model in integers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.commands.conftest import Files


@pytest.mark.parametrize(
    ("stage", "checkpoint", "arithmetic"),
    [("float", "epoch_150.pth", None), ("calibration", "calibrated.pth", "xnnpack")],
)
def test_the_arithmetic_of_a_prediction(
    files: Files, tool: Callable[..., Callable[[list[str]], int | None]], tmp_path: Path, stage: str, checkpoint: str,
    arithmetic: str | None,
) -> None:  # fmt: skip
    words = files.words(work_dir=str(tmp_path), arithmetic="xnnpack")
    tool("predict")([files.config_path, "--stage", stage, "--ckpt", str(files.root / checkpoint), *words])
    assert json.loads((tmp_path / stage / "predict.json").read_text()).get("arithmetic") == arithmetic
