"""Folding of a mean and std a channel into the stem."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from hatdet.integer.operators.windows.conv import ConvOp
from hatdet.models.task_modules.preprocessor import DataPreprocessor
from hatdet.quantization.converters import Float2Calibration
from hatdet.quantization.detector import QuantizedDetector
from hatdet.quantization.fuse import fuse_bn
from hatdet.quantization.integer_detector import IntegerDetector
from hatdet.quantization.normalization import fold_normalization
from tests.helpers.rtmdet import build_rtmdet

MEAN, STD = (103.53, 116.28, 123.675), (57.375, 57.12, 58.395)


def detector_with(mean: Any, std: Any, share_conv: bool = False) -> Any:
    torch.manual_seed(0)
    detector = build_rtmdet(share_conv=share_conv)
    detector.preprocessor = DataPreprocessor(mean=mean, std=std)
    return detector.eval()


@pytest.mark.parametrize("share_conv", [False, True])
def test_the_stem_computes_the_same_away_from_the_border(share_conv: bool) -> None:
    detector = detector_with(MEAN, STD, share_conv)
    image = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    fuse_bn(detector)
    stem = detector.backbone.stem[0].conv
    with torch.no_grad():
        before = stem(detector.preprocess(image))
        assert fold_normalization(detector)
        after = stem(detector.preprocess(image))
    assert detector.preprocessor.mean == (0.0,) and detector.preprocessor.std == (255.0,)
    inside = (slice(None), slice(None), slice(1, None), slice(1, None))
    torch.testing.assert_close(after[inside], before[inside], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(after[:, :, 0], before[:, :, 0])  # there the padding stood for the mean pixel


def test_one_mean_and_std_are_left_alone() -> None:
    detector = detector_with(0.0, 255.0)
    fuse_bn(detector)
    weight = detector.backbone.stem[0].conv.weight.clone()
    assert not fold_normalization(detector)
    assert torch.equal(detector.backbone.stem[0].conv.weight, weight)


def test_an_integer_model_brings_its_normalization() -> None:
    quantized = Float2Calibration()(detector_with(MEAN, STD))
    assert isinstance(quantized, QuantizedDetector)
    image = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    quantized.eval()
    quantized.run_network(quantized.preprocess(image))
    quantized.set_observing(False)
    graph = quantized.int_graph((64, 64))
    assert graph.metadata["mean"] == [0.0] and graph.metadata["std"] == [255.0]
    fresh = detector_with(MEAN, STD)
    assert torch.equal(IntegerDetector(detector=fresh, graph=graph).preprocess(image), image / 255.0)


def test_biases_fit_where_activations_are_nearly_zero() -> None:
    """A fresh head: features of 1e-5 under a bias of -4.6, whose integer form must not leave int32."""
    quantized = Float2Calibration()(detector_with(0.0, 255.0)).eval()
    assert isinstance(quantized, QuantizedDetector)
    quantized.run_network(quantized.preprocess(torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)))
    quantized.set_observing(False)
    graph = quantized.int_graph((64, 64))
    scores = next(op for op in graph.ops if op.name == "bbox_head.rtm_cls.0")
    assert isinstance(scores, ConvOp)
    real = scores.bias * scores.weight_scale.astype(np.float64) * graph.qparams(scores.input).scale
    np.testing.assert_allclose(real, -4.595, atol=1e-3)


def test_a_pool_before_the_stem_is_named() -> None:
    detector = detector_with(MEAN, STD)
    detector.backbone.stem = torch.nn.Sequential(torch.nn.MaxPool2d(1), *detector.backbone.stem)
    fuse_bn(detector)
    with pytest.raises(ValueError, match=r"stem\.0 reads the image"):
        fold_normalization(detector)
