"""The image classifier and its metric."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hatdet.export.evaluate import TFLiteDetector
from hatdet.export.float_graph import trace_float
from hatdet.export.onnx.evaluate import OnnxDetector
from hatdet.export.onnx.exact import write_exact
from hatdet.export.runtimes.floating import FloatTFLite, compare
from hatdet.export.targets.check import check_model
from hatdet.export.targets.table import get_target
from hatdet.export.tflite import int8
from hatdet.export.tflite.floating import write_float
from hatdet.metrics.accuracy import Accuracy
from hatdet.models.classifiers.image_classifier import ImageClassifier
from hatdet.models.task_modules.preprocessor import DataPreprocessor
from hatdet.profiling.calops import count_ops
from hatdet.quantization.converters import Float2Calibration, ModelConvertPipeline, QAT2Int
from hatdet.utils.errors import UserError


class Constant(nn.Module):
    """The same logits for every image."""

    def __init__(self, logits: list[float]) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))

    def forward(self, x: Tensor) -> Tensor:
        return self.logits.expand(len(x), -1)[:, :, None, None]


def classifier(logits: list[float], **options: Any) -> ImageClassifier:
    return ImageClassifier(backbone=Constant(logits), preprocessor=DataPreprocessor(mean=0.0, std=255.0), **options)


def batch(labels: list[int]) -> dict[str, Any]:
    count = len(labels)
    return {
        "img": torch.zeros((count, 3, 8, 8), dtype=torch.uint8),
        "gt_labels": torch.tensor(labels)[:, None],
        "img_id": torch.arange(count),
        "orig_size": torch.tensor([[40, 30]] * count),
    }


def test_the_loss_is_the_cross_entropy() -> None:
    """Logits 0 and ln 3: probabilities 1/4 and 3/4; the mean of ln 4 and ln 4/3."""
    loss = classifier([0.0, math.log(3)]).train()(batch([0, 1]))["loss_cls"]
    assert float(loss.detach()) == pytest.approx((math.log(4) + math.log(4 / 3)) / 2)


def test_predictions_are_the_best_classes_first() -> None:
    found = classifier([0.0, 2.0, 1.0], topk=2).eval()(batch([0]))
    assert found[0]["labels"].tolist() == [1, 2]
    assert float(found[0]["scores"][0]) == pytest.approx(math.exp(2) / (1 + math.e + math.exp(2)))
    assert found[0]["boxes"].tolist() == [[0.0, 0.0, 30.0, 40.0]] * 2, "the whole picture"
    found = classifier([0.0, 2.0, 1.0], topk=1).eval()({"img": torch.zeros((1, 3, 8, 6), dtype=torch.uint8)})
    assert found[0]["boxes"].tolist() == [[0.0, 0.0, 6.0, 8.0]], "which is the image where no file is told"


def test_accuracy_counts_each_image_once() -> None:
    metric = Accuracy(topk=(1, 2))
    model = classifier([0.0, 2.0, 1.0]).eval()
    for _ in range(2):  # the second time as a distributed sampler would repeat it
        metric.update(model(batch([1, 2, 0, 0])), batch([1, 2, 0, 0]))
    assert metric.compute() == {"top1": 0.25, "top2": 0.5}
    assert "top1 25.00 %" in metric.format(metric.compute())
    other = Accuracy(topk=(1, 2))
    other.merge([metric.state(), {9: {1: True, 2: True}}])
    assert other.compute() == {"top1": 0.4, "top2": 0.6}


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(UserError, match="a label is 5, but the backbone has 2 classes"):
        classifier([0.0, 1.0]).train()(batch([5]))
    with pytest.raises(UserError, match="an image has no class"):
        classifier([0.0, 1.0]).train()(batch([-1]))
    with pytest.raises(UserError, match="no image was evaluated"):
        Accuracy().compute()
    with pytest.raises(UserError, match="at least 1"):
        Accuracy(topk=(0,))
    maps = ImageClassifier(backbone=nn.Identity(), preprocessor=DataPreprocessor(mean=0.0, std=255.0))
    maps.backbone.forward = lambda x: (x, x)  # type: ignore[method-assign, assignment]
    with pytest.raises(UserError, match="include_top=True"):
        maps.train()(batch([0]))


class Small(nn.Module):
    """A backbone with a Linear on top, as most classifiers have one."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.bn, self.fc = nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.Linear(8, 3)
        self.num_classes = 3

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.relu(self.bn(self.stem(x))).mean((2, 3)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("qat_mode", ["fuse_bn", "with_bn"])
def test_the_whole_road(qat_mode: str) -> None:
    """Calibration, a step of QAT, the integer model and its file: the same scores to the last bit."""
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    model = ImageClassifier(
        backbone=Small(), preprocessor=DataPreprocessor(mean=128.0, std=128.0), topk=2, input_color="yuv444"
    ).eval()
    images = torch.randint(0, 256, (4, 3, 16, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    data = {"img": images, "gt_labels": torch.tensor([[0], [1], [2], [1]]), "img_id": torch.arange(4)}
    data["orig_size"] = torch.tensor([[16, 12]] * 4)
    before = model(data)
    q = ModelConvertPipeline(converters=[Float2Calibration()], qat_mode=qat_mode)(model)
    found = q.eval()(data)
    assert [f["labels"].tolist() for f in found] == [b["labels"].tolist() for b in before]
    q.set_quantizing(True)
    q.train()(data)["loss_cls"].backward()
    integer = QAT2Int(image_size=(16, 12))(q.eval())
    scores = integer(data)
    assert all(s["scores"].shape == (2,) and s["labels"].dtype == torch.int64 for s in scores)
    assert integer.graph.tensors["logits"].shape == (3, 1, 1)
    exported = TFLiteDetector(detector=model, model=int8.write(integer.graph))(data)
    for ours, theirs in zip(scores, exported, strict=True):
        assert torch.equal(ours["scores"], theirs["scores"]) and torch.equal(ours["labels"], theirs["labels"])
    in_onnx = OnnxDetector(detector=model, model=write_exact(integer.graph))
    in_onnx.layout.check_shapes(model, "the file")
    for ours, theirs in zip(scores, in_onnx(data), strict=True):
        assert torch.equal(ours["scores"], theirs["scores"]) and torch.equal(ours["labels"], theirs["labels"])
    assert integer.graph.metadata["detector"] == "ImageClassifier" and integer.graph.metadata["num_classes"] == 3


def test_a_classifier_is_checked_and_counted() -> None:
    model = ImageClassifier(backbone=Small(), preprocessor=DataPreprocessor(mean=128.0, std=128.0)).eval()
    report = check_model(model, get_target("ethos-u55-128"), (16, 12))
    assert report.ok, report.text()
    assert count_ops(model, (1, 3, 16, 12)).macs == 8 * 6 * 8 * 27 + 8 * 3
    (floats,) = FloatTFLite(write_float(trace_float(model, (16, 12)), "{}")).run(torch.ones(2, 3, 16, 12))
    expected = model.run_network(torch.ones(2, 3, 16, 12))
    assert compare(expected, [floats], ["logits"])["logits"]["max_abs_difference"] < 1e-5
