"""A network for a grayscale camera through all stages: what ships is what was evaluated, to the last bit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest

from tests.integration.mini_coco import CONFIG, mini_coco

pytestmark = pytest.mark.slow

Tool = Callable[[str], Callable[[list[str]], "int | None"]]
SMALL = ["widen_factor=0.125", "deepen_factor=0.1", "epochs=1", "calibration_steps=2", "batch_size=2", "workers=0"]


def test_a_gray_detector_goes_through_all_stages(
    tmp_path: Path, tool: Tool, repo_root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the pictures are files of one channel, half have colours."""
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    monkeypatch.chdir(tmp_path)
    data = mini_coco(tmp_path / "data", count=4)
    for path in sorted(data.rglob("*.png"))[::2]:
        cv2.imwrite(str(path), cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))
    options = ["--cfg-options", f"data_root={data}", "num_classes=2", "imgsz=(64,64)", f"work_dir={tmp_path / 'wd'}"]
    options += [*SMALL, "input_color=gray"]

    def run(name: str, *words: str) -> str:
        assert not tool(name)([*words, "--config", str(repo_root / CONFIG), *options])
        return capsys.readouterr().out

    for stage in ("float", "calibration", "qat"):
        run("train", "--stage", stage)
    run("predict", "--stage", "int_infer")
    assert "0 differing" in run("export", "--verify", "4")
    aligned = run("align_bpu_validation")
    for line in ("input codes of the deployed preprocessing: 0 differing", "outputs of torch: 0 differing",
                 "outputs of litert: 0 differing", "boxes of the exported decoder: 0 images differ"):  # fmt: skip
        assert line in aligned
    metadata = json.loads((tmp_path / "wd" / "int_infer-model_int8.json").read_text())
    assert metadata["input"]["shape"] == [1, 64, 64, 1] and metadata["input_order"] == "GRAY"
    assert (tmp_path / "wd" / "float" / "train_batch0.jpg").is_file()
    run("infer", "--model-inputs", f"imgs:{data / 'val2017'}", "--save-path", str(tmp_path / "found"))
