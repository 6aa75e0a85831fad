"""Boxes and scores inside float files: those of the predictions, traced and under onnxruntime."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from hatdet.export.onnx.floating import FloatNetwork, write_float
from tests.helpers.dense_models import ANCHOR, BINARY, DELTAS, MODELS, build, of
from tests.helpers.dense_roads import REFUSED, ROADS, SQUARES

SIZE = (64, 96)


@pytest.mark.parametrize("name", MODELS)
def test_boxes_are_those_of_the_predictions(name: str) -> None:
    """Of every prediction there is a prior with its box, whose score of that class is its score."""
    detector = build(name).eval()
    images = torch.randint(0, 256, (2, 3, *SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    draws = torch.Generator().manual_seed(3)
    with torch.no_grad():
        maps = detector.run_network(detector.preprocess(images))
        maps = [2 * torch.randn(m.shape, generator=draws) for m in maps]
        boxes, scores = detector.decoding(SIZE)(*maps)
    batch = {"img": images, "img_size": torch.tensor([SIZE, (50, 90)])}
    found, total = detector.predict(maps, batch), 0
    for index, one in enumerate(found):
        height, width = batch["img_size"][index].tolist()
        inside = torch.minimum(boxes[index].clamp(min=0), torch.tensor([width, height, width, height]))
        for box, score, label in zip(one["boxes"], one["scores"], one["labels"], strict=True):
            near = [(known - box).abs().amax(dim=1) < 1.01 for known in (inside, boxes[index])]
            same = (scores[index, :, label] - score).abs() < 1e-5
            assert bool(((near[0] | near[1]) & same).any())
            total += 1
    assert total > 3
    whole = FloatNetwork(detector, SIZE, decode=True, preprocess=False)
    pixels = torch.randn(1, 3, *SIZE, generator=draws)
    with torch.no_grad():
        traced = torch.jit.trace(whole, pixels, check_trace=False)(pixels)
        expected = whole(pixels)
    assert torch.allclose(traced[0], expected[0], atol=1e-2) and torch.allclose(traced[1], expected[1], atol=1e-5)
    decoded = detector.predict_decoded(boxes, scores, batch)
    assert len(decoded) == 2 and len(decoded[0]["boxes"]) > 0


STAGE = {
    "type": "StageCascadeRPNHead", "in_channels": 16, "feat_channels": 16, "anchor_generator": ANCHOR,
    "bbox_coder": {**DELTAS, "target_stds": [0.1, 0.1, 0.5, 0.5]}, "loss_bbox": {"type": "IoULoss"},
}  # fmt: skip
STAGES = [
    {**STAGE, "adapt_cfg": {"type": "dilation", "dilation": 3}, "bridged_feature": True, "with_cls": False},
    {**STAGE, "adapt_cfg": {"type": "offset"}, "loss_cls": BINARY},
]
PROPOSALS = {**MODELS["RPN"]["test_cfg"]["rpn"], "nms_post": 60}
FLOAT: dict[str, dict[str, Any]] = {
    **{name: REFUSED[name] for name in ("GuidedAnchors", "CornerNet", "RepPoints", "VFNet")},
    **{name: ROADS[name] for name in ("PAA", "LAD", "TOOD of anchors", "RTMDet with objectness", "YOLOX", "FSAF", "RPN",
                                      "CenterNet", "FoveaBox", "CenterNet with an update", "GFL", "SSD", "YOLOF",
                                      "NanoDet-Plus", "PicoDet", "PicoDet of the first release")},
    "guided proposals": {
        **MODELS["RPN"], "rpn_head": {"type": "GARPNHead", "in_channels": 16, "feat_channels": 16, **SQUARES},
        "train_cfg": None, "test_cfg": {"rpn": PROPOSALS}},
    "proposals in stages": {
        **MODELS["RPN"], "rpn_head": {"type": "CascadeRPNHead", "num_stages": 2, "stages": STAGES}, "train_cfg": None},
    "Centripetal": {**REFUSED["CornerNet"], "bbox_head": {
        "type": "CentripetalHead", "num_classes": 3, "in_channels": 16, "num_feat_levels": 1,
        "corner_emb_channels": 0}},
}  # fmt: skip
"""Heads whose threshold sees what a file gives: the detections of a file are those of the predictions."""


@pytest.mark.parametrize("name", FLOAT)
def test_detections_of_a_file_are_the_predictions(name: str) -> None:
    detector = of(FLOAT[name]).eval()
    images, draws = torch.zeros(1, 3, *SIZE), torch.Generator().manual_seed(3)
    with torch.no_grad():
        maps = [2 * torch.randn(m.shape, generator=draws) for m in detector.network()(images)]
        for kind, level in zip(detector.output_names, maps, strict=True):
            if "centripetal" in kind:  # corners four positions from the centre meet in boxes of eight
                level.fill_(math.log(4)).add_(torch.randn(level.shape, generator=draws) * 0.1)
        boxes, scores = detector.decoding(SIZE)(*maps)
    batch: dict[str, Any] = {"img": images, "scale_factor": torch.tensor([[0.5, 0.25]])}
    if name != "proposals in stages":  # the network clips boxes between stages to all of the map
        batch["img_size"] = torch.tensor([(50, 90)])
    (expected,), (found,) = detector.predict(maps, batch), detector.predict_decoded(boxes, scores, batch)
    assert len(expected["boxes"]) > 2
    assert torch.equal(found["labels"], expected["labels"])
    assert torch.allclose(found["scores"], expected["scores"], atol=1e-5)
    assert torch.allclose(found["boxes"], expected["boxes"], atol=1e-2)


TRACED = ("GuidedAnchors", "CornerNet", "PAA", "TOOD of anchors", "proposals in stages", "SABL")


@pytest.mark.parametrize("name", TRACED)
def test_a_traced_file_gives_these_boxes(name: str) -> None:
    detector = of({**ROADS, **FLOAT}[name]).eval().requires_grad_(False)
    images, draws = torch.zeros(1, 3, *SIZE), torch.Generator().manual_seed(3)
    with torch.no_grad():
        maps = tuple(2 * torch.randn(m.shape, generator=draws) for m in detector.network()(images))
        decode = detector.decoding(SIZE)
        traced, expected = torch.jit.trace(decode, maps, check_trace=False)(*maps), decode(*maps)
    assert torch.allclose(traced[0], expected[0], atol=1e-2) and torch.allclose(traced[1], expected[1], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ("GuidedAnchors", "CornerNet", "PAA", "TOOD of anchors", "SABL"))
def test_onnx_gives_the_detections(name: str) -> None:
    pytest.importorskip("onnx", reason="onnx is not installed")
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    detector = of({**ROADS, **FLOAT}[name]).eval()
    model = write_float(detector, SIZE, decode=True, opset=16)
    images = torch.randn(1, 3, *SIZE, generator=torch.Generator().manual_seed(2))
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    given = [torch.from_numpy(v) for v in session.run(None, {session.get_inputs()[0].name: images.numpy()})]
    with torch.no_grad():
        expected = detector.decoding(SIZE)(*detector.run_network(images))
    there = expected[1].amax(dim=2) > 1e-4  # pairs of corners that are none come in any order
    assert torch.allclose(given[0][there], expected[0][there], atol=1e-2)
    assert torch.allclose(given[1], expected[1], atol=1e-5)


def test_a_file_gives_boxes() -> None:
    pytest.importorskip("onnx", reason="onnx is not installed")
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    detector = build("FCOS").eval()
    model = write_float(detector, SIZE, decode=True)
    images = torch.randn(1, 3, *SIZE, generator=torch.Generator().manual_seed(2))
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    boxes, scores = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    with torch.no_grad():
        expected = detector.decoding(SIZE)(*detector.run_network(images))
    assert torch.allclose(torch.from_numpy(boxes), expected[0], atol=1e-2)
    assert torch.allclose(torch.from_numpy(scores), expected[1], atol=1e-5)
