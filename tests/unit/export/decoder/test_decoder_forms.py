"""Exported decoders of detectors whose scores have a factor, and of distances in pixels: the toolbox's boxes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hatdet.export.decoder.model import decoder_model
from hatdet.export.decoder.sections import sections_of
from hatdet.export.float_graph import trace_float
from hatdet.export.runtimes.floating import FloatTFLite
from hatdet.export.tflite.floating import write_float
from hatdet.models.detectors.dense import DenseDetector
from hatdet.models.task_modules.anchors import AnchorGenerator
from hatdet.models.task_modules.coders import BoxCoder, DistancePointBBoxCoder
from hatdet.models.task_modules.encoders import XYWHBBoxEncoder
from hatdet.models.task_modules.post_process import DetectionPostProcess
from hatdet.models.task_modules.priors import MlvlPointGenerator, PriorGenerator
from hatdet.utils.errors import UserError
from tests.helpers.decoders import Decoders, assert_same, file_metadata, random_codes, toolbox
from tests.helpers.rtmdet import build_rtmdet

SIZE, FILE, STRIDES = (64, 96), (150, 130), (8, 16, 32)
POINTS = MlvlPointGenerator(strides=STRIDES, offset=0.5)
ANCHORS = AnchorGenerator(feat_strides=STRIDES, scales=[2.0, 3.0], ratios=[1.0], center_offset=0.5)


class Plain(DenseDetector):
    """Raw maps are given by the tests."""

    def losses(self, priors: Tensor, rows: Sequence[Tensor], gt_boxes: Tensor, gt_labels: Tensor) -> dict[str, Tensor]:
        raise NotImplementedError


class Factored(Plain):
    kinds: ClassVar[tuple[str, ...]] = ("cls", "reg", "obj")


def detector(
    kind: type[Plain], priors: PriorGenerator, coder: BoxCoder, gate: float | None = None, **settings: Any
) -> Plain:
    parts = build_rtmdet(num_classes=3, deepen_factor=0.1, widen_factor=0.125)
    return kind(
        backbone=parts.backbone,
        neck=parts.neck,
        bbox_head=parts.bbox_head,
        preprocessor=parts.preprocessor,
        prior_generator=priors,
        coder=coder,
        gate=gate,
        post_process=DetectionPostProcess(**{"score_thr": 0.3, "max_per_img": 100, **settings}),
    )


DISTANCES = DistancePointBBoxCoder(exp=True, in_strides=True)
CASES = {
    "factor": detector(Factored, POINTS, DISTANCES),
    "one label": detector(Factored, POINTS, DISTANCES, multi_label=False, score_thr=0.4, max_per_img=1000),
    "few of a level": detector(Factored, POINTS, DISTANCES, nms_pre=9, score_thr=0.01),
    "gate": detector(Factored, POINTS, DISTANCES, gate=1.0, score_thr=0.01),
    "factor and anchors": detector(Factored, ANCHORS, XYWHBBoxEncoder(reg_std=(0.1, 0.1, 0.2, 0.2))),
    "pixels": detector(Plain, POINTS, DistancePointBBoxCoder()),
    "exp of pixels": detector(Plain, POINTS, DistancePointBBoxCoder(exp=True)),
}


@pytest.mark.parametrize("dtype", ["int8", "int16"])
@pytest.mark.parametrize("name", CASES)
def test_boxes_are_the_toolboxs(tmp_path: Path, name: str, dtype: str) -> None:
    model = CASES[name].eval()
    unit = 1.0 if dtype == "int8" else 1 / 256
    boxes = 0.5 if name == "pixels" else 0.01
    scales = [(unit * (boxes if 3 <= i < 6 else 0.03), 7) for i in range(len(model.output_names))]
    metadata = file_metadata(model, SIZE, scales, dtype)
    decoders = Decoders(tmp_path, metadata)
    kinds = enumerate(("any", "few", "highest"))
    codes = [random_codes(metadata, np.random.default_rng(seed), kind) for seed, kind in kinds]
    expected = [toolbox(model, metadata, one, FILE) for one in codes]
    assert all(len(scores) > 5 for _, scores, _ in expected)
    for one, found, want in zip(codes, decoders.c_many([(one, FILE) for one in codes]), expected, strict=True):
        assert_same(decoders.numpy(one, FILE), want)
        assert_same(found, want)


def test_a_factor_by_hand(tmp_path: Path) -> None:
    """Logits of 0 and factors of log 3: a score of 0.5 * 0.75; where the factor is 0, 0.25 is not above 0.3."""
    metadata = file_metadata(CASES["factor"], SIZE, [(1.0, 0)] * 3 + [(0.25, 0)] * 3 + [(1.0986123, 0)] * 3)
    codes = random_codes(metadata, np.random.default_rng(0), "lowest")
    codes[0][0, 2, 5, 1] = codes[0][0, 2, 6, 1] = 0  # stride 8; the point (44, 20)
    codes[3][:] = 0
    codes[6][0, 2, 5, 0], codes[6][0, 2, 6, 0] = 1, 0
    boxes, scores, labels = Decoders(tmp_path, metadata).numpy(codes, SIZE)
    assert boxes.tolist() == [[36, 12, 52, 28]] and labels.tolist() == [1]
    assert scores.tolist() == pytest.approx([0.375])


def test_other_models_have_no_trace_of_it(tmp_path: Path) -> None:
    paths = Decoders(tmp_path, file_metadata(build_rtmdet(), SIZE, [(0.1, 0)] * 6))
    for path in (paths.python_file, paths.header):
        text = path.read_text()
        assert "factor" not in text and "[if" not in text and "[end]" not in text


def test_sections() -> None:
    body = "a\n  # [if x]\n  b\n  # [end]\nc\n/* [if not x] */\nd\n/* [end] */\n"
    assert sections_of(body, {"x": True}) == "a\n  b\nc\n"
    assert sections_of(body, {}) == "a\nc\nd\n"


def test_one_label_a_prior_of_several_is_refused() -> None:
    model = detector(Plain, ANCHORS, XYWHBBoxEncoder(), multi_label=False)
    with pytest.raises(UserError, match=r"\[2, 2, 2\] of them, with multi_label=False; set multi_label=True"):
        decoder_model(file_metadata(model, SIZE, [(0.1, 0)] * 6))


class OtherCoder(DistancePointBBoxCoder):
    """Decodes otherwise, under the same names."""


class OtherPostProcess(DetectionPostProcess):
    """Suppresses otherwise."""


def test_parts_that_the_decoders_do_not_know_are_refused() -> None:
    model = detector(Plain, POINTS, OtherCoder(in_strides=True))
    with pytest.raises(UserError, match="no decoder for what OtherCoder does; use a part of hatdet's"):
        decoder_model(file_metadata(model, SIZE, [(0.1, 0)] * 6))
    with pytest.raises(UserError, match="--decode: Plain's decoding has no form in this file"):
        trace_float(model.eval(), SIZE, decode=True)
    model = detector(Plain, POINTS, DISTANCES)
    model.post_process = OtherPostProcess()
    with pytest.raises(UserError, match="no decoder for what OtherPostProcess does"):
        decoder_model(file_metadata(model, SIZE, [(0.1, 0)] * 6))


class ThreeMaps(nn.Module):
    """Class logits, distances and factors of three levels, a convolution each."""

    num_classes, in_channels = 3, 32

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(32, n, 1) for n in (3, 4, 1))

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return tuple(conv(feat) for conv in self.convs for feat in feats)


@pytest.mark.parametrize("in_strides", [True, False])
@torch.no_grad()
def test_scores_with_a_factor_inside_a_float_file(in_strides: bool) -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    torch.manual_seed(0)
    model = detector(Factored, POINTS, DistancePointBBoxCoder(exp=True, in_strides=in_strides)).eval()
    model.bbox_head = ThreeMaps()
    x = torch.randn(1, 3, *SIZE)
    boxes, scores = model.decoding(SIZE)(*model.run_network(x))
    assert scores.shape == (1, 126, 3)
    found = FloatTFLite(write_float(trace_float(model, SIZE, decode=True), '{"output_names": []}')).run(x)
    for ours, theirs in zip((boxes, scores), found, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-4)
