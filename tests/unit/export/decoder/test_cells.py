"""Decoders of cells: points and squares equal to the toolbox's own predictions, on all kinds of codes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from hatdet.export.decoder.model import Overrides, decoder_model
from hatdet.models.detectors.fomo import FOMO
from hatdet.models.heads.fomo_head import FOMOHead
from hatdet.models.losses.weighted_cross_entropy import WeightedCrossEntropy
from hatdet.models.task_modules.cells import CellPostProcess
from hatdet.models.task_modules.preprocessor import DataPreprocessor
from hatdet.utils.errors import UserError
from tests.helpers.decoders import assert_same, toolbox
from tests.helpers.tabled import Decoders

SIZE = (48, 64)
FILES = [(48, 64), (96, 128), (37, 91), (200, 90)]


def detector(classes: int, **settings: Any) -> FOMO:
    backbone = nn.ModuleList()
    backbone.forward = lambda x: (nn.functional.avg_pool2d(x, 8),)  # type: ignore[method-assign]
    return FOMO(
        backbone=backbone,
        bbox_head=FOMOHead(num_classes=classes, in_channels=3),
        preprocessor=DataPreprocessor(mean=0.0, std=255.0),
        loss_cls=WeightedCrossEntropy(),
        post_process=CellPostProcess(**settings),
    ).eval()


def metadata_of(task: FOMO, scale: float = 0.05, zero: int = 12, dtype: str = "int8") -> dict[str, Any]:
    shape = [1, SIZE[0] // 8, SIZE[1] // 8, task.num_classes + 1]
    outputs = [{"name": "cls_8", "shape": shape, "dtype": dtype, "scale": float(np.float32(scale)), "zero_point": zero}]
    image = {"shape": [1, *SIZE, 3], "dtype": "int8", "scale": 1 / 255, "zero_point": -128}
    metadata = {**task.metadata(), "profile": "tflite_ref", "outputs": outputs, "input": image}
    return {**metadata, "decoding": task.decoder_tables(outputs)}


def codes_of(metadata: dict[str, Any], kind: str, seed: int) -> list[np.ndarray]:
    rng, shape = np.random.default_rng(seed), metadata["outputs"][0]["shape"]
    if kind == "few":  # ties
        values = rng.choice([-128, 20, 21, 127], shape)
    elif kind == "sparse":
        values = np.where(rng.random(shape) < 0.1, rng.integers(-128, 128, shape), -128)
        values[..., 0] = 0
    elif kind in ("lowest", "highest"):
        values = np.full(shape, -128 if kind == "lowest" else 127)
    else:
        values = rng.integers(-128, 128, shape)
    return [values.astype(np.int8)]


@pytest.mark.parametrize(
    ("classes", "settings", "scale"),
    [
        (1, {}, 0.05),
        (3, {"score_thr": 0.3, "fuse": 2}, 0.1),
        (2, {"score_thr": 0.0, "fuse": 0, "max_per_img": 7}, 0.02),
        (2, {"score_thr": 0.2}, 2.0),  # logits that softmax cuts
    ],
)
def test_both_decoders_are_the_toolbox(classes: int, settings: dict[str, Any], scale: float, tmp_path: Path) -> None:
    task = detector(classes, **settings)
    metadata = metadata_of(task, scale)
    decoders, cases = Decoders(tmp_path, metadata), []
    for number, kind in enumerate(("any", "few", "sparse", "lowest", "highest")):
        cases += [(codes_of(metadata, kind, number), file) for file in FILES]
    expected = [toolbox(task, metadata, *case) for case in cases]
    assert sum(len(found[1]) for found in expected) > 20
    for case, found in zip(cases, expected, strict=True):
        assert_same(decoders.numpy(*case), found)
    for mine, found in zip(decoders.c(cases), expected, strict=True):
        assert_same(mine, found)


def test_points_are_the_middles_of_the_boxes(tmp_path: Path) -> None:
    task = detector(1)
    metadata = metadata_of(task)
    decoders = Decoders(tmp_path, metadata)
    codes = [np.full((1, 6, 8, 2), -128, np.int8)]
    codes[0][0, 2, 3] = (-128, 100)
    codes[0][0, ..., 0] = np.where(codes[0][0, ..., 1] == 100, -128, 127)
    found = decoders.module.decode(codes, (96, 128))
    assert found["boxes"].tolist() == [[48.0, 32.0, 64.0, 48.0]] and found["points"].tolist() == [[56.0, 40.0]]
    assert found["points"].dtype == np.float32
    header = decoders.header.read_text()
    assert "hdx_point_x" in header and "cells within 1 of a better one of their class left out" in header
    assert "suppress" not in decoders.module.__dict__ and "hdx_overlap" not in header and "IOU" not in header


def test_a_device_may_take_another_threshold() -> None:
    metadata = metadata_of(detector(2))
    model = decoder_model(metadata, Overrides(score_thr=0.8, max_per_img=500))
    assert (model["score_thr"], model["max_per_img"]) == (0.8, 48)  # there are 6 x 8 cells
    # sigmoid(0.05 * 27) = 0.794 and sigmoid(0.05 * 28) = 0.802: less than 27 above background is never enough.
    assert model["gate"] == 27


def test_outputs_that_do_not_fit_are_refused() -> None:
    task = detector(2)
    with pytest.raises(UserError, match=r"FOMO looks numbers up by int8 codes.*set int16_output=False"):
        metadata_of(task, dtype="int16")
    metadata = metadata_of(task)
    metadata["outputs"][0]["shape"] = [1, 6, 8, 5]
    with pytest.raises(UserError, match=r"cls_8 should be \(6, 8, 3\) .* at stride 8, it is \(6, 8, 5\)"):
        decoder_model(metadata)


def test_the_scores_are_a_softmax() -> None:
    task, metadata = detector(2), metadata_of(detector(2))
    codes = codes_of(metadata, "any", 3)
    real = (torch.from_numpy(codes[0]).float() - 12) * metadata["outputs"][0]["scale"]
    best = real.double().softmax(-1)[..., 1:].amax().item()
    assert toolbox(task, metadata, codes, SIZE)[1][0] == pytest.approx(best, rel=1e-6)
