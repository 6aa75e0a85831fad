"""A training prints for its best checkpoint what prediction prints for the file: every detection, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from hatdet.config.config import Config
from hatdet.config.load import load_config
from hatdet.engine.run import predict, train
from hatdet.metrics.coco import COCODetectionMetric
from tests.integration.mini_coco import CONFIG, mini_coco

Detections = list[tuple[torch.Tensor, ...]]


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> Iterator[Detections]:
    """Detections of the last evaluation, image by image."""
    found: Detections = []
    reset, update = COCODetectionMetric.reset, COCODetectionMetric.update

    def remember_reset(self: Any) -> None:
        found.clear()
        reset(self)

    def remember(self: Any, predictions: Any, batch: Any) -> None:
        found.extend(tuple(p[k].clone() for k in ("boxes", "scores", "labels")) for p in predictions)
        update(self, predictions, batch)

    monkeypatch.setattr(COCODetectionMetric, "reset", remember_reset)
    monkeypatch.setattr(COCODetectionMetric, "update", remember)
    yield found


def assert_same(config: Config, stage: str, scored: Detections, amp: bool = False) -> None:
    trained = train(config, stage, amp=amp)
    before = list(scored)
    assert sum(len(scores) for _, scores, _ in before) > 100
    assert predict(config, stage, checkpoint=Path(config["ckpt_dir"]) / f"{stage}-checkpoint-last.pth.tar") == trained
    assert len(before) == len(scored) == 6
    for one, other in zip(before, scored, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(("amp", "multi_scale"), [(True, None), ("auto", (1.0, 2.0))])
def test_all_stages(
    tmp_path: Path, repo_root: Path, scored: Detections, amp: Any, multi_scale: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In mixed precision, and at training sizes that validation does not have."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    options = {
        "data_root": str(mini_coco(tmp_path / "data", count=6)), "num_classes": 2, "imgsz": (64, 64), "workers": 0,
        "work_dir": str(tmp_path / "wd"), "epochs": 2, "batch_size": 3, "val_batch_size": 4, "warmup_steps": 1,
        "calibration_steps": 2, "run_pictures": False, "target": None, "val_interval": 1, "late_epochs": 0,
        "model.post_process.score_thr": 0.0,
    }  # fmt: skip
    config = load_config(str(repo_root / CONFIG), {**options, "amp": amp, "multi_scale": multi_scale})
    assert_same(config, "float", scored)
    if multi_scale is None:
        assert_same(config, "calibration", scored)
        assert_same(config, "qat", scored, amp=True)
