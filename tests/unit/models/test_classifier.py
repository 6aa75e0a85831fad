"""The image classifier and its metric."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hatdet.metrics.accuracy import Accuracy
from hatdet.models.classifiers.image_classifier import ImageClassifier
from hatdet.models.task_modules.preprocessor import DataPreprocessor
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
    }


def test_the_loss_is_the_cross_entropy() -> None:
    """Logits 0 and ln 3: probabilities 1/4 and 3/4; the mean of ln 4 and ln 4/3."""
    loss = classifier([0.0, math.log(3)]).train()(batch([0, 1]))["loss_cls"]
    assert float(loss.detach()) == pytest.approx((math.log(4) + math.log(4 / 3)) / 2)


def test_predictions_are_the_best_classes_first() -> None:
    found = classifier([0.0, 2.0, 1.0], topk=2).eval()(batch([0]))
    assert found[0]["labels"].tolist() == [1, 2]
    assert float(found[0]["scores"][0]) == pytest.approx(math.exp(2) / (1 + math.e + math.exp(2)))


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
