"""Boxes and scores inside float files: those of the predictions, traced and under onnxruntime."""

from __future__ import annotations

import pytest
import torch

from hatdet.export.onnx.floating import FloatNetwork, write_float
from tests.helpers.dense_models import MODELS, build

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
