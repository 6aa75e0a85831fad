"""RetinaNet's configs through every stage at 64 pixels, from a folder of images to the integer model."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from hatdet.building import Builder
from hatdet.commands.mscoco_packer import main as pack
from hatdet.config.config import Config
from hatdet.config.load import load_config
from hatdet.config.options import parse_options
from hatdet.engine.run import predict, train
from hatdet.engine.stages import predictor_config
from hatdet.export.delivery import input_codes
from hatdet.export.runtimes.parity import check_parity
from hatdet.export.tflite.int8 import write
from hatdet.quantization.integer_detector import IntegerDetector
from hatdet.utils.checkpoints.checkpoint import load_checkpoint
from hatdet.utils.errors import UserError
from tests.integration.mini_coco import mini_coco

FULL = "configs/detection/retinanet/retinanet_vargnetv2_fpn_mscoco.py"
TINY = "configs/detection/retinanet/retinanet_vargnetv2_tiny_coco.py"
SIZES = ["imgsz=(64,64)", "epochs=1", "workers=0", "calibration_step=1"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = mini_coco(tmp_path_factory.mktemp("retinanet") / "mscoco", count=5)
    for split in ("train", "val"):
        pack(["--src-data-dir", str(root), "--target-data-dir", str(root), "--split-name", split, "--num-workers", "0"])
    return root


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HATDET_CACHE", str(tmp_path / "cache"))
    yield
    logging.getLogger("hatdet").handlers.clear()


def config_of(repo_root: Path, file: str, data: Path, *options: str) -> Config:
    given = parse_options([*SIZES, "num_classes=2", f"data_root={data}{os.sep}"])
    return load_config(repo_root / file, {**given, **parse_options(options)})


@pytest.mark.slow
def test_the_tutorials_config(repo_root: Path, data: Path) -> None:
    """Packed sets, YUV, its trainers, validation with the json in annotations/; one of the head's four convolutions."""
    options = ["batch_size_per_gpu=2", "num_train_samples=2", "lr=1e-4", "model.head.stacked_convs=1"]
    config = config_of(repo_root, FULL, data, *options)
    for stage in ("float", "calibration", "qat"):
        train(config, stage)
    values = predict(config, "int_infer")
    work_dir = Path(config.work_dir)
    text = (work_dir / "float/log.txt").read_text()
    assert "these weights are left as they are (random, at first)" in text
    assert "model: RetinaNet, " in text and "2 images, " in text
    written = json.loads((work_dir / "int_infer/predict.json").read_text())
    assert written["metrics"] == values
    validated = load_checkpoint(work_dir / "qat-checkpoint-best.pth.tar")["metrics"]
    assert {k: v for k, v in validated.items() if k in values} == values, "what QAT reports is what ships"


@pytest.mark.slow
def test_the_tiny_config(repo_root: Path, data: Path) -> None:
    """The folder itself, Mosaic, EMA; the file's values are the integer model's."""
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    config = config_of(repo_root, TINY, data, "batch_size=2", "val_batch_size=3", "lr=1e-3")
    for stage in ("float", "calibration", "qat"):
        train(config, stage)
    values = predict(config, "int_infer")
    work_dir = Path(config.work_dir)
    validated = load_checkpoint(work_dir / "qat-checkpoint-best.pth.tar")["metrics"]
    assert {k: v for k, v in validated.items() if k in values} == values
    predictor = Builder().build(predictor_config(config, "int_infer")[1])
    shipped = predictor.prepare()
    assert isinstance(shipped, IntegerDetector)
    codes = input_codes(shipped.task, predictor.data_loader, shipped.graph, images=3)
    report = check_parity(shipped.graph, write(shipped.graph), codes)
    assert report.ok and len(report.tensors) == 10, report.text()
    state = load_checkpoint(work_dir / "float-checkpoint-best.pth.tar")
    assert state["metadata"]["input_color"] == "yuv444" and state["metadata"]["classes"] == ["square", "disc"]


def test_a_pretrained_backbone_is_loaded_where_it_is(repo_root: Path, data: Path, tmp_path: Path) -> None:
    config = config_of(repo_root, FULL, data, f"pretrained={tmp_path}/backbone.pth.tar")
    stem = {"backbone.stem.conv.weight": torch.full((32, 3, 3, 3), 0.5), "backbone.top.0.bias": torch.zeros(1024)}
    torch.save({"state_dict": stem}, tmp_path / "backbone.pth.tar")
    trainer = config.float_trainer
    pipeline = Builder().build(trainer["model_convert_pipeline"])
    model = pipeline(Builder().build(config.model))
    assert torch.equal(model.backbone.stem.conv.weight, stem["backbone.stem.conv.weight"])


def test_what_does_not_fit_is_said(repo_root: Path, data: Path) -> None:
    with pytest.raises(UserError, match=r"predicts 3 classes, but the training data has 2 classes: square, disc; use "):
        train(config_of(repo_root, FULL, data, "num_classes=3"), "float")
    with pytest.raises(UserError, match=r"70x64 \(height x width\) do not fit .* multiples of 32"):
        train(config_of(repo_root, FULL, data, "imgsz=(70,64)", "batch_size_per_gpu=2"), "float")
    config = config_of(repo_root, FULL, data)
    config.val_transforms[-1]["mean"] = 0.0
    with pytest.raises(
        UserError, match="data gives images in yuv444, mean 0, std 128; the model takes yuv444, mean 128"
    ):
        train(config, "float")
