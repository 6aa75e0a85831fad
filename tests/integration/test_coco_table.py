"""The whole procedure of docs/coco.md on a data set with COCO's shape, small: 80 classes, official weights by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from hatdet.building import Builder
from hatdet.commands.coco_table.command import main
from hatdet.commands.convert_checkpoint import convert
from hatdet.config.load import load_config
from hatdet.utils.checkpoints.checkpoint import save_checkpoint
from tests.helpers.coco_shaped import IDS, coco_shaped

SIZE = 64
FEW = ["--cfg-options", "batch_size=4", "base_batch_size=4", "workers=0", "calibration_steps=1", "run_pictures=False",
       "device=cpu", "amp=None", "val_batch_size=4"]  # fmt: skip


def official(file: Path) -> Path:
    """RTMDet-tiny's weights as MMDetection writes them: its names, under ``state_dict``, with ``meta``."""
    torch.manual_seed(0)
    model = Builder().build(load_config("hatdet:rtmdet/rtmdet_tiny_8xb32_300e_coco.py").model, "model")
    own = file.with_suffix(".own.pth")
    save_checkpoint(own, {"state_dict": model.state_dict(), "metadata": {"exp_on_reg": False}})
    convert(own, file, to="mmdet")
    return file


@pytest.mark.slow
def test_the_table_is_filled_and_nothing_is_done_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    monkeypatch.chdir(tmp_path)
    coco_shaped(tmp_path / "coco", train=8, val=4)
    weights = official(tmp_path / "rtmdet_tiny.pth")
    words = ["coco", "--models", "nano", "tiny", "--sizes", str(SIZE), "--weights", f"tiny={weights}", "--epochs", "1",
             "--qat-epochs", "1", "--work-dir", "w"]  # fmt: skip
    assert main([*words, *FEW]) == 0
    text = (tmp_path / "w" / "table.md").read_text()
    lines = text.splitlines()[2:]
    assert [line.split(" | ")[0] for line in lines] == ["| RTMDet-tiny", "| RTMDet-nano"]
    assert all(", 0 |" in line and "| - |" not in line for line in lines)
    rows = json.loads((tmp_path / "w" / "table.json").read_text())["rows"]
    assert [row["equal"] for row in rows] == [True, True] and rows[0]["weights"] == "rtmdet_tiny.pth"
    assert all(row["metrics"]["file"] == row["metrics"]["qat"] for row in rows)
    assert len(IDS) == 80 and load_config("hatdet:rtmdet/rtmdet_tiny_8xb32_300e_coco.py").num_classes == 80
    assert f"loaded {weights}" in (out := capsys.readouterr().out) and "recipe small: 8 pictures x 1 epoch" in out

    assert main([*words, *FEW]) == 0
    out = capsys.readouterr().out
    assert "tiny_64 is done already" in out and "nano_64 is done already" in out and "epoch 1/1" not in out

    (tmp_path / "w" / f"nano_{SIZE}" / "row.json").unlink()  # ended before its last step: the file is made again
    assert main([*words, *FEW]) == 0
    out = capsys.readouterr().out
    assert "epoch 1/1" not in out and "---- integer model ----" in out
    assert (tmp_path / "w" / "table.md").read_text() == text
