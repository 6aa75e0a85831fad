"""A detector of a user's own, defined here: float training to the integer file, without an edit of the package.

docs/add_a_detector.md tells the same story.
"""

from __future__ import annotations

import itertools
import json
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hatdet.building import Builder
from hatdet.commands.export.run import Request, export_model
from hatdet.config.load import load_config
from hatdet.config.options import parse_options
from hatdet.engine.run import predict, train
from hatdet.engine.stages import predictor_config
from hatdet.export.formats.table import ExportOptions
from hatdet.export.runtimes.integer import LiteRTRuntime
from hatdet.models.detectors.dense import DenseDetector
from hatdet.models.feature_info import FeatureInfo
from hatdet.models.fitting import told
from hatdet.models.heads.weights import init_head
from hatdet.models.layers.conv import ConvModule
from hatdet.models.losses.focal_loss import FocalLossV2
from hatdet.models.losses.iou_loss import GIoULoss
from hatdet.models.losses.reduce import mean_over_ranks
from hatdet.models.task_modules.coders import DistancePointBBoxCoder
from hatdet.models.task_modules.post_process import DetectionPostProcess
from hatdet.models.task_modules.preprocessor import DataPreprocessor
from hatdet.models.task_modules.priors import MlvlPointGenerator
from hatdet.registry import register
from tests.helpers.decoders import load_module
from tests.integration.mini_coco import CONFIG, mini_coco


# ------------------------------------------------------------------------------------------- what the user writes
@register
class TinyFCOSHead(nn.Module):
    """A tower that all levels share, then class logits, log distances in strides, and centerness."""

    def __init__(self, *, num_classes: int, in_channels: int | None = None, strides: Sequence[int] = (8, 16, 32)):
        super().__init__()
        c = self.in_channels = told(in_channels, "in_channels")
        self.num_classes, self.strides = num_classes, tuple(strides)
        self.tower = nn.Sequential(*(ConvModule(c, c, 3, activation="ReLU6") for _ in range(2)))
        self.predictors = nn.ModuleList(nn.Conv2d(c, n, 3, padding=1) for n in (num_classes, 4, 1))
        init_head(self, self.predictors[:1], prior_probability=0.1)

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        towers = [self.tower(feat) for feat in feats]
        return tuple(predict(tower) for predict in self.predictors for tower in towers)


@register
class TinyFCOS(DenseDetector):
    """A point learns the smallest box that it lies in, up to 8 strides from every side (after arXiv 1904.01355)."""

    kinds: ClassVar[tuple[str, ...]] = ("cls", "reg", "ctr")
    coder: DistancePointBBoxCoder

    def __init__(
        self, *, backbone: nn.Module, neck: nn.Module, bbox_head: TinyFCOSHead, preprocessor: DataPreprocessor,
        post_process: DetectionPostProcess, loss_cls: FocalLossV2, loss_bbox: GIoULoss, classes: Sequence[str] = (),
    ) -> None:  # fmt: skip
        super().__init__(
            backbone=backbone, neck=neck, bbox_head=bbox_head, preprocessor=preprocessor, post_process=post_process,
            prior_generator=MlvlPointGenerator(strides=bbox_head.strides, offset=0.5),
            coder=DistancePointBBoxCoder(exp=True, in_strides=True), classes=classes,
        )  # fmt: skip
        self.loss_cls, self.loss_bbox = loss_cls, loss_bbox

    def losses(self, priors: Tensor, rows: Sequence[Tensor], gt_boxes: Tensor, gt_labels: Tensor) -> dict[str, Tensor]:
        logits, regs, centers = rows
        sides = self.coder.encode(priors[:, None, :2], gt_boxes[:, None])  # (B, P, M, 4)
        reached = (sides.amin(-1) > 0) & (sides.amax(-1) < 8 * priors[:, None, 2]) & (gt_labels[:, None] >= 0)
        area = (gt_boxes[..., 2:] - gt_boxes[..., :2]).prod(-1)[:, None].where(reached, torch.inf)
        smallest, box = area.min(dim=2)
        image, prior = positive = smallest.isfinite().nonzero(as_tuple=True)
        box = box[positive]
        targets = torch.zeros_like(logits, dtype=torch.int8)
        targets[image, prior, gt_labels[image, box]] = 1
        left_top, right_bottom = sides[image, prior, box].view(-1, 2, 2).unbind(1)
        ratio = torch.minimum(left_top, right_bottom) / torch.maximum(left_top, right_bottom)
        centerness = ratio.prod(-1).sqrt()
        count = mean_over_ranks(torch.tensor(float(len(image)), device=logits.device)).clamp(min=1)
        boxes = self.coder.decode(priors[prior], regs[positive])
        ctr = F.binary_cross_entropy_with_logits(centers[..., 0][positive], centerness, reduction="sum") / count
        return {
            "loss_cls": self.loss_cls(logits, targets, count),
            "loss_bbox": self.loss_bbox(boxes, gt_boxes[image, box], torch.ones_like(centerness), count),
            "loss_ctr": ctr,
        }


@register
class TinyBackbone(nn.Module):
    """Maps of 32 channels at strides 8, 16, 32."""

    def __init__(self, *, in_channels: int = 3) -> None:
        super().__init__()
        self.in_channels, self.feature_info = in_channels, FeatureInfo((32, 32, 32), (8, 16, 32))
        channels = [in_channels, 16, 24, 32, 32, 32]
        self.stages = nn.ModuleList(
            ConvModule(a, b, 3, stride=2, activation="ReLU6") for a, b in itertools.pairwise(channels)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        maps = [x]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return tuple(maps[3:])


MODEL = """
_base_ = {base!r}
model = dict(
    _delete_=True,
    type="TinyFCOS",
    backbone=dict(type="TinyBackbone"),
    neck=dict(type="FPN", out_channels=32, num_outs=3),
    bbox_head=dict(type="TinyFCOSHead", num_classes=num_classes),
    preprocessor=dict(type="DataPreprocessor", mean=0.0, std=255.0),
    post_process=dict(type="DetectionPostProcess", score_thr=0.01, iou_threshold=0.6),
    loss_cls=dict(type="FocalLossV2"),
    loss_bbox=dict(type="GIoULoss"),
)
"""


# ---------------------------------------------------------------------------------------------- what comes of it
@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HATDET_CACHE", str(tmp_path / "cache"))
    yield
    logging.getLogger("hatdet").handlers.clear()


@pytest.mark.slow
def test_a_users_detector_goes_the_whole_road(tmp_path: Path, repo_root: Path) -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    data = mini_coco(tmp_path / "data", count=8)
    path = tmp_path / "tiny_fcos.py"
    path.write_text(MODEL.format(base=str(repo_root / CONFIG)))
    options = parse_options([
        f"data_root={data}/", "num_classes=2", "imgsz=(64,96)", "workers=0", "epochs=12", "batch_size=4",
        "warmup_steps=2", "lr=1e-2", "base_batch_size=4", "ema_gamma=2", "val_interval=12",
        "calibration_steps=2", "qat_epochs=1", "run_pictures=False",
    ])  # fmt: skip
    config = load_config(path, options)
    for stage in ("float", "calibration", "qat"):
        train(config, stage)
    values = predict(config, "int_infer")

    asked = Request(stage="int_infer", emit_decoder=True, evaluate=True, options=ExportOptions(verify=4))
    assert export_model(str(path), options, asked)
    work_dir = Path(config.work_dir)
    results = json.loads((work_dir / "export-results.json").read_text())
    assert results["parity"]["ok"] and results["parity"]["differing"] == 0 and results["parity"]["compared"] > 1000
    assert results["evaluation"]["equal"] and results["evaluation"]["tflite"] == pytest.approx(values, abs=0)
    assert results["files"][0]["ok"] and (work_dir / "int_infer-model_int8_decoder.h").is_file()

    predictor = Builder().build(predictor_config(config, "int_infer")[1])
    model = predictor.prepare()
    decoder = load_module(work_dir / "int_infer-model_int8_decoder.py")
    runtime = LiteRTRuntime((work_dir / "int_infer-model_int8.tflite").read_bytes())
    total = 0
    for batch in predictor.data_loader:
        for ours, name in zip(model(batch), batch["file_name"], strict=True):
            total += assert_decoded(decoder, runtime, data / "val2017" / name, ours)
    assert total > 50


def assert_decoded(decoder: Any, runtime: LiteRTRuntime, file: Path, ours: dict[str, Tensor]) -> int:
    """The file's outputs through its own decoder are the toolbox's detections; their number."""
    picture = cv2.imread(str(file))
    found = decoder.decode(runtime.run(decoder.preprocess(picture)), picture.shape[:2])
    for key, value in ours.items():
        assert np.array_equal(found[key], value.numpy()), key
    return len(found["scores"])


def test_losses_by_hand(tmp_path: Path, repo_root: Path) -> None:
    """A box of 12 x 12 around two points of stride 8, (4, 4) and (12, 4), which say it exactly; logits of 0."""
    path = tmp_path / "tiny_fcos.py"
    path.write_text(MODEL.format(base=str(repo_root / CONFIG)))
    model = Builder().build(load_config(path, {"num_classes": 2}).model)
    priors = MlvlPointGenerator(strides=(8,), offset=0.5).grid_priors([(1, 2)])
    regs = torch.tensor([[[2.0, 3, 10, 9], [10, 3, 2, 9]]]).div(8).log()
    boxes = torch.tensor([[[2.0, 1, 14, 13], [0, 0, 0, 0]]])
    found = model.losses(priors, [torch.zeros(1, 2, 2), regs, torch.zeros(1, 2, 1)], boxes, torch.tensor([[1, -1]]))
    log2 = 0.6931472
    assert found["loss_bbox"].item() == pytest.approx(0, abs=1e-6)
    assert found["loss_ctr"].item() == pytest.approx(log2)  # whatever the target
    assert found["loss_cls"].item() == pytest.approx((0.25 + 0.75) * 0.25 * log2)


def test_the_page_tells_of_this_detector(repo_root: Path) -> None:
    blocks = re.findall(r"```python\n(.+?)```", (repo_root / "docs/add_a_detector.md").read_text(), re.S)
    source = Path(__file__).read_text()
    assert len(blocks) == 4 and all(block in source for block in blocks)
    users = source[source.index("class TinyFCOSHead") : source.index("class TinyBackbone")]
    assert len([line for line in users.splitlines() if line]) <= 60
