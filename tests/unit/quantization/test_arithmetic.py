"""One arithmetic from training to the file: QAT's forward, the executor and LiteRT's default kernels are equal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from quantization_toy import GatedNetwork, batch, detector, train
from torch import nn

from hatdet.export.metadata import build_metadata
from hatdet.export.runtimes.parity import check_parity
from hatdet.export.tflite.int8 import write
from hatdet.integer.executor import IntExecutor
from hatdet.integer.graph import IntGraph
from hatdet.integer.operators.pairs.mul import MulOp
from hatdet.integer.profiles.table import PROFILES
from hatdet.integer.profiles.xnnpack import Xnnpack
from hatdet.integer.xnnpack import squares_agree
from hatdet.quantization.converters import Float2Calibration, ModelConvertPipeline
from hatdet.quantization.detector import QuantizedDetector, quantize_detector
from hatdet.quantization.fuse import fuse_bn
from hatdet.utils.errors import UserError
from tests.helpers.compare import exact_onnx_tensors
from tests.helpers.fuzz import SIZE, random_module
from tests.helpers.spellings import Task


def quantized(
    network: Callable[[], nn.Module] | None = None, qat_mode: str = "fuse_bn", arithmetic: str = "xnnpack"
) -> QuantizedDetector:
    settings = {"arithmetic": arithmetic, "activation_calibration_observer": "moving_average"}
    pipeline = ModelConvertPipeline(converters=[Float2Calibration()], qat_mode=qat_mode, qconfig_params=settings)
    q = pipeline(detector(0, network))
    assert isinstance(q, QuantizedDetector)
    q.set_quantizing(True)
    return q


def codes_of(graph: IntGraph, images: torch.Tensor) -> torch.Tensor:
    params = graph.qparams(graph.inputs[0])
    return (torch.round(images / params.scale) + params.zero_point).clamp(-128, 127).to(torch.int8)


@pytest.mark.parametrize("network", [None, *(partial(GatedNetwork, name) for name in ("SiLU", "Hardswish", "Tanh"))])
def test_training_in_the_arithmetic_that_ships(network: Callable[[], nn.Module] | None) -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    q = quantized(network)
    losses = train(q, 20)
    assert sum(losses[-4:]) < sum(losses[:4])
    q.eval()
    images = q.preprocess(batch(99, size=3, height=36, width=28)["img"])
    graph = q.int_graph((36, 28))
    assert graph.metadata["profile"] == build_metadata(graph)["profile"] == "xnnpack"
    simulated = q.run_network(images)
    assert all(torch.equal(a, b) for a, b in zip(simulated, IntExecutor(graph).run_real(images), strict=True))
    restored = IntGraph.from_state(graph.to_state())
    assert restored.profile.name == "xnnpack"
    report = check_parity(restored, write(graph), codes_of(graph, images), intermediates=True)
    assert report.ok and report.runtimes == ("LiteRT default", "LiteRT default, 4 threads"), report.text()
    assert len(report.tensors) == len(graph.ops)
    other = replace(graph, metadata={**graph.metadata, "profile": "tflite_ref"})
    assert any((a != b).any() for a, b in zip(simulated, IntExecutor(other).run_real(images), strict=True))
    report = check_parity(restored, write(graph), codes_of(graph, images), executor=IntExecutor(other))
    assert not report.ok, "the reference's codes are not those of the default kernels"


@pytest.mark.parametrize("network", [None, *(partial(GatedNetwork, name) for name in ("SiLU", "Hardswish", "Tanh"))])
def test_training_in_an_arithmetic_that_no_package_has(network: Callable[[], nn.Module] | None) -> None:
    """QAT's forward is the executor's and the exact ONNX form's; of the file nothing is claimed."""
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    q = quantized(network, arithmetic="tflite_single")
    train(q, 20)
    q.eval()
    images = q.preprocess(batch(99, size=3, height=36, width=28)["img"])
    graph = q.int_graph((36, 28))
    codes = codes_of(graph, images)
    expected = IntExecutor(graph)(codes, keep=True)
    simulated = q.run_network(images)
    assert all(torch.equal(a, b) for a, b in zip(simulated, IntExecutor(graph).run_real(images), strict=True))
    for name, value in exact_onnx_tensors(graph, codes.numpy()).items():
        assert np.array_equal(value, expected[name].numpy()), f"exact ONNX: {name}"
    other = replace(graph, metadata={**graph.metadata, "profile": "tflite_ref"})
    assert any((a != b).any() for a, b in zip(simulated, IntExecutor(other).run_real(images), strict=True))
    report = check_parity(graph, write(graph), codes, intermediates=True)
    assert (report.ok, report.runtimes, report.compared, report.other) == (False, (), 0, "reference")
    assert report.line().startswith("parity: not verified against a runtime here: no package has TFLite Micro or CMSIS")
    assert report.to_dict()["unproven"] == graph.profile.unproven and report.default_differing_share > 0
    assert "LiteRT's reference kernels (not part of the verdict)" in report.text()


def test_tables_are_made_once_while_ranges_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    """And anew for a scale that moved: then the forward is still that of the graph."""
    made: list[str] = []

    def counted(name: str, table: Any, *args: Any, **kwargs: Any) -> Any:
        made.append(name)
        return table(PROFILES["xnnpack"], *args, **kwargs)

    for name in ("activation", "add"):
        monkeypatch.setattr(PROFILES["xnnpack"], name, partial(counted, name, getattr(Xnnpack, name)), raising=False)
    q = quantized(partial(GatedNetwork, "SiLU"))
    train(q, 2)
    q.set_observing(False)
    images = q.eval().preprocess(batch(99, size=2, height=36, width=28)["img"])
    before = q.run_network(images)
    made.clear()
    assert all(torch.equal(a, b) for a, b in zip(before, q.run_network(images), strict=True)) and made == []
    for step in q.quantized.plan.steps:
        if step.kind == "activation":
            q.quantized.plan.quantizers[step.inputs[0]].scale.mul_(1.5)
    q.quantized.settle_loaded()
    made.clear()
    after = q.run_network(images)
    assert "activation" in made and any((a != b).any() for a, b in zip(before, after, strict=True))
    graph = q.int_graph((36, 28))
    assert all(torch.equal(a, b) for a, b in zip(after, IntExecutor(graph).run_real(images), strict=True))


def test_live_batch_normalization_folds_into_the_same_arithmetic() -> None:
    q = quantized(qat_mode="with_bn")
    train(q, 2)
    assert q.eval().int_graph((36, 28)).metadata["profile"] == "xnnpack"


@pytest.mark.parametrize("seed", range(8))
def test_random_network(seed: int) -> None:
    """All operators that networks are made of; what the profile refuses, it refuses by name."""
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    network = random_module(seed)
    model = Task(network, len(network.outputs)).eval()
    fuse_bn(model)
    settings = dict(observer="min_max", averaging_constant=0.01, qat_forward="integer", arithmetic="xnnpack")
    q = quantize_detector(model, **settings).eval()  # type: ignore[arg-type]
    x = torch.rand(2, 3, *SIZE, generator=torch.Generator().manual_seed(seed)) * 4 - 2
    q.set_observing(True)
    q.run_network(x)
    q.set_observing(False)
    q.set_quantizing(True)
    graph = q.int_graph(SIZE)
    assert all(torch.equal(a, b) for a, b in zip(q.run_network(x), IntExecutor(graph).run_real(x), strict=True))
    images = torch.cat([x, torch.where(x > 0, 9.0, -9.0)])
    report = check_parity(graph, write(graph), codes_of(graph, images), intermediates=True)
    assert report.ok, report.text()
    codes = codes_of(graph, images)
    expected = IntExecutor(graph)(codes, keep=True)
    for name, value in exact_onnx_tensors(graph, codes.numpy()).items():
        assert np.array_equal(value, expected[name].numpy()), f"exact ONNX: {name}"


def test_an_arithmetic_that_nobody_has() -> None:
    with pytest.raises(UserError, match="unknown arithmetic 'xnnpak'; did you mean 'xnnpack'"):
        ModelConvertPipeline(converters=[Float2Calibration()], qconfig_params={"arithmetic": "xnnpak"})
    graph = replace(quantized_graph(), metadata={"profile": "qnnpack"})
    with pytest.raises(UserError, match="unknown arithmetic 'qnnpack'"):
        IntExecutor(graph)


def quantized_graph() -> IntGraph:
    q = quantized()
    train(q, 1)
    return q.eval().int_graph((36, 28))


class Squares(nn.Module):
    """Both spellings of a map times itself, between convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 4, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        x = self.first(x)
        x = self.second(x * x)
        return (self.last(x.square()),)


def test_squares_have_scales_with_which_they_are_products() -> None:
    """XNNPACK makes another operator of a map times itself."""
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    torch.manual_seed(0)
    settings = dict(observer="min_max", averaging_constant=0.01, qat_forward="integer", arithmetic="xnnpack")
    q = quantize_detector(Task(Squares(), 1).eval(), **settings).eval()  # type: ignore[arg-type]
    x = torch.rand(2, 3, *SIZE) * 4 - 2
    q.set_observing(True)
    q.run_network(x)
    q.set_observing(False)
    q.set_quantizing(True)
    graph = q.int_graph(SIZE)
    squares = [op for op in graph.ops if isinstance(op, MulOp)]
    assert len(squares) == 2 and all(op.input1 == op.input2 for op in squares)
    assert all(squares_agree(graph.qparams(op.input1).scale, graph.qparams(op.output).scale) for op in squares)
    assert all(torch.equal(a, b) for a, b in zip(q.run_network(x), IntExecutor(graph).run_real(x), strict=True))
    report = check_parity(graph, write(graph), codes_of(graph, x), intermediates=True)
    assert report.ok, report.text()
